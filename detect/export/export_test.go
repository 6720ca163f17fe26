package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"yaosu/detect/export"
	"yaosu/schema"
)

func at(clock string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04:05", clock, schema.Shanghai)
	if err != nil {
		panic(err)
	}
	return t
}

var testKey = func() *schema.PersonKey {
	key, err := schema.NewPersonKey([]byte(strings.Repeat("k", 32)))
	if err != nil {
		panic(err)
	}
	return key
}()

const number = "5309273026113008"

// list has the shapes that occur: a code at two shops, a person, a device, and
// one nobody needs to look at any more. It is in the order Read gives.
func list() []schema.Suspect {
	person := testKey.Pseudonym(number)
	return []schema.Suspect{
		{
			ID: "s-clone", Detector: "cloned_code", DetectorVersion: "1", Severity: "high", EntityKind: "code", EntityID: "81919614060158519545",
			Regions: []string{"640104", "530927"}, Score: 1, FirstTime: at("2026-02-01 09:00:00"), LastTime: at("2026-02-03 10:30:15").Add(500 * time.Millisecond), Amount: 1234.5,
			Events: []string{"P1/E1", "P2/a;b\\c"}, Codes: []string{"81919614060158519545"}, Orgs: []string{"P1", "P2"}, Roles: []string{"sold_first", "sold_again"}, Persons: []string{person},
			Reason:     "追溯码 81919614060158519545 于 2026-02-01 在沧源县第一人民医院门诊药房医保结算,49.5 小时后在银川市兴庆区好药师大药房连锁有限公司再次医保结算,两次参保人不同;共 2 次短时间跨机构结算",
			Parameters: `{"clone_days":3}`, Status: "open", OpenedAt: at("2026-02-04 00:00:00"), UpdatedAt: at("2026-02-04 00:00:00"),
		},
		{
			ID: "s-resold", Detector: "resold_code", DetectorVersion: "1", Severity: "high", EntityKind: "code", EntityID: "010692456188407421A1;=x",
			Regions: []string{"530927"}, Score: 1, FirstTime: at("2026-01-01 09:00:00"), LastTime: at("2026-02-02 10:30:00"), Amount: 20,
			Orgs: []string{"P1", "P3", "P1", "P4", "P5", "P6"}, Roles: []string{"a", "b", "c", "d", "e", "f"},
			Reason: "再次售出", Status: "confirmed", OpenedAt: at("2026-02-04 00:00:00"), UpdatedAt: at("2026-02-06 00:00:00"),
		},
		{
			ID: "s-travel", Detector: "impossible_travel", DetectorVersion: "2", Severity: "medium", EntityKind: "person", EntityID: person,
			Period: "2026-02", Regions: []string{"640104"}, Score: 0.25, FirstTime: at("2026-02-01 09:00:00"), LastTime: at("2026-02-01 09:00:30"),
			Orgs: []string{"P2"}, Roles: []string{"card_there"}, Persons: []string{person},
			Reason: "参保人 " + person + " 于 2026-02-01 09:00 在沧源结算", Status: "open", OpenedAt: at("2026-02-04 00:00:00"), UpdatedAt: at("2026-02-05 00:00:00"),
		},
		{
			ID: "s-burst", Detector: "card_burst", DetectorVersion: "1", Severity: "low", EntityKind: "device", EntityID: "=cmd|'/c calc'!A1",
			Regions: []string{"530927"}, Score: 12, FirstTime: at("2026-01-05 09:00:00"), LastTime: at("2026-01-05 09:04:00"),
			Reason: "+1", Status: "dismissed", OpenedAt: at("2026-02-04 00:00:00"), UpdatedAt: at("2026-02-04 00:00:00"), SupersededBy: "kq2m",
		},
	}
}

var (
	names  = map[string]string{"P1": "沧源县第一人民医院门诊药房", "P2": "银川市兴庆区好药师大药房连锁有限公司第二十三分店"}
	titles = map[string]string{"cloned_code": "疑似假药(克隆码)", "resold_code": "疑似回流药"}
)

func write(t *testing.T, format string, list []schema.Suspect) string {
	t.Helper()
	var out bytes.Buffer
	if err := export.Write(&out, format, list, export.Around{Names: names, Titles: titles}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTheTableIsAsAnOfficerReadsIt(t *testing.T) {
	got := write(t, "table", list())
	want, err := os.ReadFile("testdata/suspects.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTheTableFitsATerminal(t *testing.T) {
	long := list()
	for i := range long {
		long[i].Reason = strings.Repeat("追溯码 81919614060158519545 于 2026-02-01 在沧源县,", 9)
		long[i].EntityID = "P53092700012/" + strings.Repeat("01069245618840742112", 5)
		long[i].ID = strings.Repeat("0123456789", 5)
	}
	frame := 0
	for _, line := range strings.Split(write(t, "table", long), "\n") {
		width := text.StringWidth(line)
		if width > 160 {
			t.Errorf("a line is %d wide, want at most 160: %s", width, line)
		}
		if strings.HasPrefix(line, "+") && frame == 0 {
			frame = width
		}
		if (strings.HasPrefix(line, "+") || strings.HasPrefix(line, "|")) && width != frame {
			t.Errorf("a line is %d wide, want %d as the others: %s", width, frame, line)
		}
	}
}

func TestATextCannotSteerTheTerminal(t *testing.T) {
	one := list()[:1]
	one[0].EntityID, one[0].Reason = "P1/\x1b[2JPOS", "a\r\nb\x07"
	if got := write(t, "table", one); strings.ContainsAny(got, "\x1b\r\x07") {
		t.Errorf("got %q", got)
	}
}

func TestAnEmptyListIsSaid(t *testing.T) {
	for format, want := range map[string]string{
		"table":  "没有线索。\n",
		"ndjson": "",
	} {
		if got := write(t, format, nil); got != want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
	if got := write(t, "csv", nil); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "\ufeffsuspect_id,detector,") {
		t.Errorf("csv: got %q, want the header alone", got)
	}
}

func TestNDJSON(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(write(t, "ndjson", list()), "\n"), "\n")
	if len(lines) != 4 {
		t.Fatalf("got %d lines, want 4", len(lines))
	}
	for i, line := range lines {
		var got schema.Suspect
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if want := list()[i]; got.ID != want.ID || !got.LastTime.Equal(want.LastTime) || got.Reason != want.Reason {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	for _, want := range []string{`"first_time":"2026-02-01T09:00:00+08:00"`, `"last_time":"2026-02-03T10:30:15.5+08:00"`, `追溯码`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("got %s, want %s in it", lines[0], want)
		}
	}
	for _, want := range []string{`"events":[]`, `"codes":[]`, `"orgs":[]`, `"persons":[]`} {
		if !strings.Contains(lines[3], want) {
			t.Errorf("got %s, want %s in it", lines[3], want)
		}
	}
}

func TestWhatIsReadBackFromCSVIsWhatWasWritten(t *testing.T) {
	file := write(t, "csv", list())
	if !strings.HasPrefix(file, "\ufeff") {
		t.Error("got no byte order mark")
	}
	records, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(file, "\ufeff"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var want []string // the names of JSON
	for i := range reflect.TypeFor[schema.Suspect]().NumField() {
		want = append(want, reflect.TypeFor[schema.Suspect]().Field(i).Tag.Get("json"))
	}
	if !slices.Equal(records[0], want) {
		t.Errorf("header: got %q, want %q", records[0], want)
	}
	for i, record := range records[1:] {
		got := parse(t, records[0], record)
		want := list()[i]
		if g, w := toJSON(t, got), toJSON(t, want); g != w {
			t.Errorf("got  %s\nwant %s", g, w)
		}
		for j, cell := range record {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@") {
				t.Errorf("column %s would be a formula: %q", records[0][j], cell)
			}
		}
	}
	for _, want := range []string{",81919614060158519545,", ",2026-02,", ",530927,", ",\"\t=cmd|'/c calc'!A1\","} {
		if !strings.Contains(file, want) {
			t.Errorf("got no %q in\n%s", want, file)
		}
	}
}

func toJSON(t *testing.T, s schema.Suspect) string {
	t.Helper()
	return write(t, "ndjson", []schema.Suspect{s})
}

// parse does what the page on the format tells readers to do.
func parse(t *testing.T, header, record []string) schema.Suspect {
	t.Helper()
	var s schema.Suspect
	v := reflect.ValueOf(&s).Elem()
	for i, name := range header {
		cell := strings.TrimPrefix(record[i], "\t")
		field := v.FieldByNameFunc(func(n string) bool {
			f, _ := v.Type().FieldByName(n)
			return f.Tag.Get("json") == name
		})
		switch field.Interface().(type) {
		case string:
			field.SetString(cell)
		case bool:
			field.SetBool(cell == "true")
		case float64:
			n, err := strconv.ParseFloat(cell, 64)
			if err != nil {
				t.Fatal(err)
			}
			field.SetFloat(n)
		case time.Time:
			when, err := time.Parse(time.RFC3339, cell)
			if err != nil {
				t.Fatal(err)
			}
			field.Set(reflect.ValueOf(when))
		case []string:
			field.Set(reflect.ValueOf(split(cell)))
		}
	}
	return s
}

func split(cell string) []string {
	if cell == "" {
		return nil
	}
	values := []string{""}
	for i := 0; i < len(cell); i++ {
		last := &values[len(values)-1]
		switch {
		case cell[i] == '\\' && i+1 < len(cell):
			i++
			*last += string(cell[i])
		case cell[i] == ';':
			values = append(values, "")
		default:
			*last += string(cell[i])
		}
	}
	return values
}

func TestFormatsThatAreNotThere(t *testing.T) {
	for format, want := range map[string]string{
		"pdf": `format "pdf": want one of table, ndjson, csv, xlsx, parquet`,
		"":    "want one of",
	} {
		err := export.Write(&bytes.Buffer{}, format, nil, export.Around{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", format, err, want)
		}
	}
}
