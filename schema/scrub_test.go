package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"yaosu/schema"
)

func TestScrubPerson(t *testing.T) {
	const n = "6401041524751277"
	for _, c := range []struct{ name, raw, want string }{
		{"an event", `{"org":"P","person":"` + n + `","lot":"1"}`, `{"org":"P","person":"<` + n + `>","lot":"1"}`},
		{"blanks around the colon", "{\"person\" :\n\t\"" + n + `" }`, "{\"person\" :\n\t\"<" + n + `>" }`},
		{"a number", `{"person":` + n + `,"lot":"1"}`, `{"person":"<` + n + `>","lot":"1"}`},
		{"a number at the end", `{"person": ` + n + ` }`, `{"person": "<` + n + `>"}`},
		{"an array", `{"person":["` + n + `",["x"]],"lot":"1"}`, `{"person":"<[\"` + n + `\",[\"x\"]]>","lot":"1"}`},
		{"an object", `{"person":{"id":"` + n + `}"},"lot":"1"}`, `{"person":"<{\"id\":\"` + n + `}\"}>","lot":"1"}`},
		{"null stays", `{"person":null,"lot":"1"}`, `{"person":null,"lot":"1"}`},
		{"an empty string stays", `{"person":"","lot":"1"}`, `{"person":"","lot":"1"}`},
		{"escapes in the value", `{"person":"64\u0030\"1","lot":"1"}`, `{"person":"<640\"1>","lot":"1"}`},
		{"escapes in the name", `{"per\u0073on":"` + n + `"}`, `{"per\u0073on":"<` + n + `>"}`},
		{"the name in capitals", `{"PSN_NO":"` + n + `"}`, `{"PSN_NO":"<` + n + `>"}`},
		{"every name", `{"psn_no":"1","certno":"2","psn_name":"张","mdtrt_cert_no":"4","input":{"selinfo":[{"person":"5"}]}}`,
			`{"psn_no":"<1>","certno":"<2>","psn_name":"<张>","mdtrt_cert_no":"<4>","input":{"selinfo":[{"person":"<5>"}]}}`},
		{"names without underscores", `{"psnNo":"1","certNo":"2","PSNNAME":"张","mdtrtCertNo":"4","prscDrCertNo":"9"}`,
			`{"psnNo":"<1>","certNo":"<2>","PSNNAME":"<张>","mdtrtCertNo":"<4>","prscDrCertNo":"9"}`},
		{"names that only look alike stay", `{"person_region":"640104","salesperson":"x","prsc_dr_certno":"9","a":"person","b":"person, certno"}`,
			`{"person_region":"640104","salesperson":"x","prsc_dr_certno":"9","a":"person","b":"person, certno"}`},
		{"twice", `{"person":"1","person":"2"}`, `{"person":"<1>","person":"<2>"}`},
		{"cut off in the value", `{"person":"` + n, `{"person":"<` + n + `>"`},
		{"cut off behind the value", `{"person":"` + n + `"`, `{"person":"<` + n + `>"`},
		{"cut off before the value", `{"person":`, `{"person":`},
		{"cut off in the name", `{"pers`, `{"pers`},
		{"no closing quote", `{"person":"` + n + `,"lot":"1"}`, `{"person":"<` + n + `>","lot":"1"}`},
		{"no closing quote, last member", `[{"person":"` + n + `},{"lot":"1"}]`, `[{"person":"<` + n + `>"},{"lot":"1"}]`},
		{"no closing quote, end of line", "{\"person\":\"" + n + "\n{\"lot\":\"1\"}", "{\"person\":\"<" + n + ">\"\n{\"lot\":\"1\"}"},
		{"no opening quote", `{"person":` + n + `","lot":"1"}`, `{"person":"<` + n + `>","lot":"1"}`},
		{"a quote in the middle", `{"person":"64"` + n + `","lot":"1"}`, `{"person":"<64\"` + n + `\">","lot":"1"}`},
		{"no quotes round the name", `{person:"` + n + `",lot:"1"}`, `{person:"<` + n + `>",lot:"1"}`},
		{"one quote before the name", `{"person:"` + n + `"}`, `{"person:"<` + n + `>"}`},
		{"single quotes", `{'person':'` + n + `','lot':'1'}`, `{'person':'<` + n + `>','lot':'1'}`},
		{"no colon is no member", `{"person" "1"}`, `{"person" "1"}`},
		{"JSON in a string", `{"input":"{\"psn_no\":\"` + n + `\",\"x\":\"1\"}"}`, `{"input":"{\"psn_no\":\"<` + n + `>\",\"x\":\"1\"}"}`},
		{"a number in JSON in a string", `{"input":"{\"psn_no\":` + n + `,\"x\":\"1\"}"}`, `{"input":"{\"psn_no\":\"<` + n + `>\",\"x\":\"1\"}"}`},
		{"indented JSON in a string", `{"input":"{\n\"psn_no\": \"` + n + `\"\n}"}`, `{"input":"{\n\"psn_no\": \"<` + n + `>\"\n}"}`},
		{"JSON in a string with its quotes spelled out", `{"input":"{\u0022psn_no\u0022:\u0022` + n + `\u0022}"}`, `{"input":"{\u0022psn_no\u0022:\u0022<` + n + `>\u0022}"}`},
		{"a form", `psn_no=` + n + `, lot=1`, `psn_no="<` + n + `>", lot=1`},
		{"lines", "{\"person\":\"1\"}\n{\"person\":\"2\"}", "{\"person\":\"<1>\"}\n{\"person\":\"<2>\"}"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := []byte(c.raw)
			got := schema.ScrubPerson(raw, func(s string) string { return "<" + s + ">" })
			if got == nil || string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if string(raw) != c.raw {
				t.Errorf("the input was changed to %s", raw)
			}
			if hidden := string(schema.ScrubPerson(raw, func(string) string { return "p" })); strings.Contains(hidden, n) {
				t.Errorf("the number is still there: %s", hidden)
			}
			if json.Valid(raw) && !json.Valid(got) {
				t.Errorf("valid JSON became %s", got)
			}
		})
	}
}

func TestScrubPersonGivesUpOnBytesThatAreNoText(t *testing.T) {
	for name, raw := range map[string]string{
		"GBK":   "{\"psn_name\":\"\xcd\xf5\"}",
		"gzip":  "\x1f\x8b\x08\x00",
		"Arrow": "\xff\xff\xff\xff\x10\x00",
		"NUL":   "{\"person\":\"1\"}\x00",
	} {
		if got := schema.ScrubPerson([]byte(raw), strings.ToUpper); got != nil {
			t.Errorf("%s: got %q, want nil", name, got)
		}
	}
}

// Whatever stands around a member, its number does not come through.
func FuzzScrubPerson(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"org":"P",`, `,"lot":"1"}`},
		{`{"person":`, `}`},
		{`{"person":"`, `"}`},
		{`{"person":{"certno":[`, ``},
		{`{"input":"{`, `}"}`},
		{`{"person":"\`, `,"x"`},
		{`\u00`, "x\"\n"},
		{`{"psn_no":12`, `34"`},
	} {
		for kind := range uint8(15) {
			f.Add(seed[0], seed[1], kind)
		}
	}
	f.Fuzz(func(t *testing.T, before, after string, kind uint8) {
		const n = "640104199001011234"
		name := [...]string{"person", "psn_no", "certno", "psn_name", "mdtrt_cert_no"}[kind%5]
		mark := [...]string{`"`, `\"`, `\u0022`}[kind/5%3]
		raw := before + mark + name + mark + ":" + mark + n + mark + after
		got := schema.ScrubPerson([]byte(raw), func(string) string { return "p" })
		if strings.Contains(string(got), n) && strings.Count(raw, n) == 1 {
			t.Fatalf("the number is still there: %q\nin %q", got, raw)
		}
	})
}
