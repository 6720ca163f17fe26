package gate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"yaosu/gate"
	"yaosu/schema"
)

// document is a YAML file as JSON values.
func document(t *testing.T, text []byte) any {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// openapi is what of OpenAPI our document uses for its operations.
type openapi struct {
	OpenAPI  string
	Security []map[string][]string
	Paths    map[string]map[string]operation
}

type operation struct {
	Security   *[]map[string][]string
	Parameters []struct {
		Name, In string
		Example  string
	}
	RequestBody struct {
		Content map[string]struct {
			Examples map[string]struct{ Value any }
		}
	} `yaml:"requestBody"`
	Responses map[string]struct {
		Ref      string   `yaml:"$ref"`
		Examples []string `yaml:"x-examples"` // of requests that are answered so
		Content  map[string]struct {
			Examples map[string]struct{ Value any }
		}
	}
}

func (o operation) secured(d *openapi) bool {
	if o.Security != nil {
		return len(*o.Security) > 0
	}
	return len(d.Security) > 0
}

// answers finds the status that a request example is answered with, and the
// example of that answer, if the document has one.
func (o operation) answers(name string) (status string, example any) {
	for status, r := range o.Responses {
		if slices.Contains(r.Examples, name) {
			return status, nil
		}
		for _, content := range r.Content {
			if e, ok := content.Examples[name]; ok {
				return status, e.Value
			}
		}
	}
	return "", nil
}

// pointer escapes a step of a JSON pointer in the fragment of an address.
func pointer(steps ...string) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(s))
	}
	return b.String()
}

// apiTest holds the document against a door.
type apiTest struct {
	*testing.T
	url      string
	doc      openapi
	compiler *jsonschema.Compiler
}

func newAPITest(t *testing.T) *apiTest {
	js := streams(t)
	sink := gate.NewJetStreamSink(js)
	url := open(t, gate.Config{
		Sink: sink, Refused: sink, Check: &answering{}, Lives: database(t), Filter: made(t, "5f3c0e1d9a7b2468"),
		Senders: holders{
			"TOKEN":  {Name: "example", Orgs: map[string]string{"P42010600012": "420106"}},
			"READER": {Name: "bureau", Reads: true},
		},
	})
	text := get(t, url+"/openapi.yaml").Body
	a := &apiTest{T: t, url: url, compiler: jsonschema.NewCompiler()}
	if err := yaml.Unmarshal([]byte(text), &a.doc); err != nil {
		t.Fatal(err)
	}
	a.compiler.AssertFormat()
	if err := a.compiler.AddResource("openapi.yaml", document(t, []byte(text))); err != nil {
		t.Fatal(err)
	}
	return a
}

// valid holds value, of JSON, to the schema at a pointer into the document.
func (a *apiTest) valid(what, at string, value any) {
	a.Helper()
	compiled, err := a.compiler.Compile("openapi.yaml#" + at)
	if err != nil {
		a.Fatalf("%s: %v", what, err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		a.Fatal(err)
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		a.Fatal(err)
	}
	if err := compiled.Validate(instance); err != nil {
		a.Errorf("%s: %v", what, err)
	}
}

// request makes one of an operation, with the examples of its path.
func (a *apiTest) request(method, path string, o operation, contentType, body, token string) answer {
	a.Helper()
	for _, p := range o.Parameters {
		if p.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Name+"}", p.Example)
		}
	}
	req, err := http.NewRequestWithContext(a.Context(), strings.ToUpper(method), a.url+path, strings.NewReader(body))
	if err != nil {
		a.Fatal(err)
	}
	headers := []string{"Content-Type", contentType}
	if token != "" {
		headers = append(headers, "Authorization", "Bearer "+token)
	}
	return do(a, http.DefaultClient, req, headers...)
}

// check holds an answer to what the document says of its status.
func (a *apiTest) check(method, path string, o operation, got answer) {
	a.Helper()
	status := fmt.Sprint(got.Status)
	r, known := o.Responses[status]
	if !known {
		a.Errorf("%s %s is answered %s, which the document does not know: %s", method, path, status, got.Body)
		return
	}
	at := pointer("paths", path, method, "responses", status)
	contentType, _, _ := strings.Cut(got.Header.Get("Content-Type"), ";")
	if name, found := strings.CutPrefix(r.Ref, "#"); found {
		at = name
		if contentType != "application/problem+json" {
			a.Errorf("%s %s: %s is answered as %s, want a problem", method, path, status, contentType)
		}
	} else if _, known := r.Content[contentType]; !known {
		a.Errorf("%s %s: %s is answered as %s, which the document does not know", method, path, status, contentType)
		return
	}
	var value any = got.Body
	if strings.HasSuffix(contentType, "json") {
		if err := json.Unmarshal([]byte(got.Body), &value); err != nil {
			a.Fatal(err)
		}
	}
	a.valid("answer of "+path, at+pointer("content", contentType, "schema"), value)
}

// lasting is a value without what is another one each time.
func lasting(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if !slices.Contains([]string{"request_id", "inf_refmsgid", "refmsg_time", "respond_time"}, k) {
				out[k] = lasting(e)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = lasting(e)
		}
		return out
	case int:
		return float64(v)
	}
	return value
}

func TestTheDoorAnswersEveryExampleOfOpenAPI(t *testing.T) {
	a := newAPITest(t)
	if !strings.HasPrefix(a.doc.OpenAPI, "3.1.") {
		t.Fatalf("openapi: got %q", a.doc.OpenAPI)
	}
	ran := 0
	for path, methods := range a.doc.Paths {
		for method, o := range methods {
			for contentType, content := range o.RequestBody.Content {
				for name, example := range content.Examples {
					what := path + " " + name
					status, want := o.answers(name)
					if status == "" {
						t.Errorf("%s: the document does not say how it is answered", what)
						continue
					}
					body, plain := example.Value.(string)
					if !plain {
						text, err := json.Marshal(example.Value)
						if err != nil {
							t.Fatal(err)
						}
						body = string(text)
					}
					a.valid("request "+what, pointer("paths", path, method, "requestBody", "content", contentType, "schema"), example.Value)
					got := a.request(method, path, o, contentType, body, "TOKEN")
					ran++
					if fmt.Sprint(got.Status) != status {
						t.Errorf("%s: got %d %s, want %s", what, got.Status, got.Body, status)
					}
					a.check(method, path, o, got)
					if want == nil {
						continue
					}
					a.valid("answer "+what, pointer("paths", path, method, "responses", status, "content", "application/json", "schema"), want)
					var told any
					if err := json.Unmarshal([]byte(got.Body), &told); err != nil {
						t.Fatal(err)
					}
					if got, want := lasting(told), lasting(want); !reflect.DeepEqual(got, want) {
						t.Errorf("%s:\n got %v\nwant %v", what, got, want)
					}
				}
			}
			if method == "get" {
				got := a.request(method, path, o, "", "", "READER")
				ran++
				if got.Status != 200 {
					t.Errorf("%s: got %d %s, want 200", path, got.Status, got.Body)
				}
				a.check(method, path, o, got)
			}
			got := a.request(method, path, o, "application/json", "{}", "")
			refused := got.Status == 401 || got.Header.Get("X-Problem-Code") == "unknown-sender"
			if refused != o.secured(&a.doc) {
				t.Errorf("%s without a credential: got %d %s; secured in the document: %v", path, got.Status, got.Body, o.secured(&a.doc))
			}
			a.check(method, path, o, got)
		}
	}
	if ran < 15 {
		t.Errorf("only %d examples were run", ran)
	}
}

func TestOpenAPIHasEveryRouteAndEveryField(t *testing.T) {
	a := newAPITest(t)
	var documented []string
	for path, methods := range a.doc.Paths {
		for method := range methods {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	// The routes as the source of the door has them.
	source, err := os.ReadFile("serve.go")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("{code...}", "{code}", "pathNHSA", `"/v1/nhsa/{infno}"`).Replace(string(source))
	var served []string
	for _, method := range []string{"GET", "POST"} {
		for _, part := range strings.Split(text, `{"`+method+`", "`)[1:] {
			path, _, _ := strings.Cut(part, `"`)
			served = append(served, method+" "+path)
		}
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented %q\nserved     %q", documented, served)
	}
	// An event with all fields, each as the schema has it, is taken by the decoder
	// with none unknown.
	tree := document(t, []byte(get(t, a.url+"/openapi.yaml").Body))
	properties := tree.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any)["Event"].(map[string]any)["properties"].(map[string]any)
	event := map[string]any{}
	for name, p := range properties {
		property := p.(map[string]any)
		enum, _ := property["enum"].([]any)
		switch {
		case len(enum) > 0:
			event[name] = enum[0]
		case property["type"] == "array":
			event[name] = []string{"81234567890123456789"}
		case property["type"] == "boolean":
			event[name] = true
		case property["type"] == "number":
			event[name] = 1.5
		case property["format"] == "date-time":
			event[name] = "2026-06-01T10:21:35+08:00"
		case property["format"] == "date":
			event[name] = "2026-06-01"
		case property["pattern"] != nil:
			event[name] = "420106"
		default:
			event[name] = "x"
		}
	}
	event["void_kind"] = []string{"sale"}
	a.valid("an event with all fields", "/components/schemas/Event", event)
	line, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	var scan schema.Scan
	if why := scan.DecodeJSON(line); why != nil || scan.Unknown > 0 {
		t.Errorf("%s: got %v and %d fields the contract does not know", line, why, scan.Unknown)
	}
	delete(event, "void_kind") // a sale has none, so it is not kept
	again := map[string]any{}
	if err := json.Unmarshal(scan.AppendJSON(nil), &again); err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(again)), slices.Sorted(maps.Keys(event)); !slices.Equal(got, want) {
		t.Errorf("fields of the contract %q\nof the document %q", got, want)
	}
}

func TestAsyncAPISaysWhatTheStreamsAre(t *testing.T) {
	a := newAPITest(t)
	text := get(t, a.url+"/asyncapi.yaml").Body
	var doc struct {
		AsyncAPI   string
		Channels   map[string]struct{ Address string }
		Components struct {
			Messages map[string]struct {
				ContentType string `yaml:"contentType"`
				Examples    []struct{ Payload any }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	for channel, want := range map[string]string{
		"scans":    schema.ScanSubject("{region}", "{org}"),
		"rejects":  schema.RejectSubject("{region}", "{org}"),
		"suspects": schema.SuspectSubject("{region}", "{detector}"),
		"check":    "check.v1.{region}.{org}",
	} {
		if got := doc.Channels[channel].Address; got != want {
			t.Errorf("channel %s: got %q, want %q", channel, got, want)
		}
	}
	for message, want := range map[string]string{"Scans": schema.ContentJSON, "Table": schema.ContentArrow, "Refused": schema.ContentRefused} {
		if got := doc.Components.Messages[message].ContentType; got != want {
			t.Errorf("content type of %s: got %q, want %q", message, got, want)
		}
	}
	if err := a.compiler.AddResource("asyncapi.yaml", document(t, []byte(text))); err != nil {
		t.Fatal(err)
	}
	for name, m := range doc.Components.Messages {
		compiled, err := a.compiler.Compile("asyncapi.yaml#" + pointer("components", "messages", name, "payload"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, example := range m.Examples {
			text, err := json.Marshal(example.Payload)
			if err != nil {
				t.Fatal(err)
			}
			instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := compiled.Validate(instance); err != nil {
				t.Errorf("example of %s: %v", name, err)
			}
		}
	}
}
