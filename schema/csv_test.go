package schema_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"yaosu/schema"
)

const plainMapping = "\xEF\xBB\xBF" + `# what our cash desk exports

event_id = 流水号
kind     = "sale"
time     = 销售时间
org      = "P42010600013"
region   = "420106"
codes    = 追溯码
split    = 拆零
quantity = 数量
price    = 单价
expires  = 有效期
person   = 人员编号
doctor   = doctor name
`

const plainHeader = "\xEF\xBB\xBF流水号,销售时间,追溯码,拆零,数量,单价,有效期,人员编号, doctor name ,备注\n"

func mapping(t *testing.T, text string) schema.Mapping {
	t.Helper()
	m, err := schema.ParseMapping(strings.NewReader(text))
	if err != nil {
		t.Fatalf("parse mapping: %v", err)
	}
	return m
}

func readCSV(t *testing.T, file string) []schema.Row {
	t.Helper()
	var rows []schema.Row
	err := schema.ReadCSV(strings.NewReader(file), mapping(t, plainMapping), func(r schema.Row) error {
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		t.Fatalf("read CSV: %v", err)
	}
	return rows
}

func TestCSVRowsBecomeEvents(t *testing.T) {
	const code = "83857930000879766660"
	at := time.Date(2026, 1, 5, 10, 11, 12, 0, schema.Shanghai)
	want := schema.Scan{
		EventID: "A1", Kind: schema.Sale, Time: at, Org: "P42010600013", Region: "420106", Codes: []string{code},
	}
	for _, c := range []struct {
		name, row string
		change    func(*schema.Scan)
	}{
		{"a time without zone", "A1,2026-01-05 10:11:12," + code + ",,,,,,,", func(*schema.Scan) {}},
		{"a time with T and no zone", "A1,2026-01-05T10:11:12," + code + ",,,,,,,", func(*schema.Scan) {}},
		{"a time with slashes", "A1,2026/01/05 10:11:12," + code + ",,,,,,,", func(*schema.Scan) {}},
		{"a time with slashes and short numbers", "A1,2026/1/5 10:11:12," + code + ",,,,,,,", func(*schema.Scan) {}},
		{"a time in UTC", "A1,2026-01-05T02:11:12Z," + code + ",,,,,,,", func(*schema.Scan) {}},
		{"a time with a fraction", "A1,2026-01-05 10:11:12.250," + code + ",,,,,,,", func(s *schema.Scan) { s.Time = at.Add(250 * time.Millisecond) }},
		{"several codes in a cell", `A1,2026-01-05 10:11:12,"1,2;3 4；5，6、7` + "\n" + `8",,,,,,,`, func(s *schema.Scan) { s.Codes = strings.Split("12345678", "") }},
		{"a code with a group separator", "A1,2026-01-05 10:11:12,0106924561884074\x1d21AB,,,,,,,", func(s *schema.Scan) { s.Codes = []string{"0106924561884074\x1d21AB"} }},
		{"split in Chinese", "A1,2026-01-05 10:11:12," + code + ",是,,,,,,", func(s *schema.Scan) { s.Split = true }},
		{"split as 1", "A1,2026-01-05 10:11:12," + code + ",1,,,,,,", func(s *schema.Scan) { s.Split = true }},
		{"split as TRUE", "A1,2026-01-05 10:11:12," + code + ",TRUE,,,,,,", func(s *schema.Scan) { s.Split = true }},
		{"split as 否", "A1,2026-01-05 10:11:12," + code + ",否,,,,,,", func(*schema.Scan) {}},
		{"numbers as exports write them", "A1,2026-01-05 10:11:12," + code + ",0,+02.50,.5,,,,", func(s *schema.Scan) {
			s.Quantity, s.Price = schema.Number{Micro: 2_500_000, Known: true}, schema.Number{Micro: 500_000, Known: true}
		}},
		{"a number with an exponent", "A1,2026-01-05 10:11:12," + code + ",0,1E+2,,,,,", func(s *schema.Scan) { s.Quantity = schema.Whole(100) }},
		{"dates", "A1,2026-01-05 10:11:12," + code + ",,,,2027/9/30,,,", func(s *schema.Scan) { s.Expires = time.Date(2027, 9, 30, 0, 0, 0, 0, time.UTC) }},
		{"a date of eight digits", "A1,2026-01-05 10:11:12," + code + ",,,,20270930,,,", func(s *schema.Scan) { s.Expires = time.Date(2027, 9, 30, 0, 0, 0, 0, time.UTC) }},
		{"texts with quotes", "A1,2026-01-05 10:11:12," + code + `,,,,,00640104," 王""医生, 主任 ",x`, func(s *schema.Scan) { s.Person, s.Doctor = "00640104", `王"医生, 主任` }},
		{"a comma at the end of the line", "A1,2026-01-05 10:11:12," + code + ",,,,,,,,", func(*schema.Scan) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := readCSV(t, plainHeader+c.row+"\r\n")
			if len(rows) != 1 {
				t.Fatalf("got %d rows, want 1", len(rows))
			}
			if rows[0].Refusal != nil {
				t.Fatalf("got refusal %v, want none", rows[0].Refusal)
			}
			var got schema.Scan
			if refusal := got.DecodeJSON(rows[0].JSON); refusal != nil {
				t.Fatalf("got refusal %v of %s", refusal, rows[0].JSON)
			}
			want := want
			c.change(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestABadCSVRowNamesLineAndColumn(t *testing.T) {
	const n = "6401041524751277"
	good := "A1,2026-01-05 10:11:12,1,,,,,,,\n"
	for _, c := range []struct{ name, row, code, field, column string }{
		{"a date only as time", "A2,2026-01-05,1,,,,," + n + ",,", schema.RefuseFormat, "time", "销售时间"},
		{"a time nobody can read", "A2,5.1.2026,1,,,,," + n + ",,", schema.RefuseFormat, "time", "销售时间"},
		{"a time on 30 February", "A2,2026-02-30 10:11:12,1,,,,," + n + ",,", schema.RefuseFormat, "time", "销售时间"},
		{"split as maybe", "A2,2026-01-05 10:11:12,1,maybe,,,," + n + ",,", schema.RefuseFormat, "split", "拆零"},
		{"a number with a unit", "A2,2026-01-05 10:11:12,1,,2盒,,," + n + ",,", schema.RefuseFormat, "quantity", "数量"},
		{"a number with a comma", `A2,2026-01-05 10:11:12,1,,,"1,200.00",,` + n + ",,", schema.RefuseFormat, "price", "单价"},
		{"a number that is a point", "A2,2026-01-05 10:11:12,1,,.,,," + n + ",,", schema.RefuseFormat, "quantity", "数量"},
		{"a date that is none", "A2,2026-01-05 10:11:12,1,,,,2027-13-01," + n + ",,", schema.RefuseFormat, "expires", "有效期"},
		{"GBK in a cell", "A2,2026-01-05 10:11:12,1,,,,," + n + ",\xcd\xf5,", schema.RefuseEncoding, "doctor", "doctor name"},
		{"too few cells", "A2,2026-01-05 10:11:12,1,,,,," + n, schema.RefuseFormat, "", "8 cells, the header 10"},
		{"too many cells", "A2,2026-01-05 10:11:12,1,,,,," + n + ",,,x", schema.RefuseFormat, "", "11 cells, the header 10"},
		{"a quote in a cell", `A2,2026-01-05 10:11:12,1"2,,,,,` + n + ",,", schema.RefuseFormat, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := readCSV(t, plainHeader+good+c.row+"\n"+good)
			if len(rows) != 3 {
				t.Fatalf("got %d rows, want 3: the neighbours must survive", len(rows))
			}
			if rows[0].Refusal != nil || rows[2].Refusal != nil {
				t.Errorf("a neighbour was refused: %v, %v", rows[0].Refusal, rows[2].Refusal)
			}
			got := rows[1].Refusal
			if got == nil {
				t.Fatalf("got no refusal, want %s of %q: %s", c.code, c.field, rows[1].JSON)
			}
			if got.Code != c.code || got.Field != c.field {
				t.Errorf("got %s of %q, want %s of %q", got.Code, got.Field, c.code, c.field)
			}
			if !strings.HasPrefix(got.Reason, "line 3: ") || !strings.Contains(got.Reason, c.column) {
				t.Errorf("got reason %q, want line 3 and %s in it", got.Reason, c.column)
			}
			if strings.Contains(got.Reason, n) {
				t.Errorf("the reason quotes the person: %q", got.Reason)
			}
			if rows[1].Line != 3 {
				t.Errorf("got line %d, want 3", rows[1].Line)
			}
			// What could not be converted is kept for the reject.
			var s schema.Scan
			if rows[1].JSON != nil {
				s.DecodeJSON(rows[1].JSON)
				if s.EventID != "A2" || s.Org == "" {
					t.Errorf("the event is not to be recognised: %s", rows[1].JSON)
				}
			}
		})
	}
}

func TestCSVFilesThatAreRefusedWhole(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct{ name, file, want string }{
		{"an empty file", "", "header"},
		{"a column that is missing", "流水号,追溯码\nA1,1\n", "销售时间"},
		{"a column that is there twice", strings.Replace(plainHeader, "备注", "数量", 1), "数量"},
		{"a header in GBK", "\xc1\xf7\xcb\xae,x\n", "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := schema.ReadCSV(strings.NewReader(c.file), mapping(t, plainMapping), func(schema.Row) error {
				t.Error("a row was handed out")
				return nil
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
	err := schema.ReadCSV(strings.NewReader(plainHeader+"A1,,,,,,,,,\n"), mapping(t, plainMapping), func(schema.Row) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of yield", err)
	}
}

func TestParseMappingRefuses(t *testing.T) {
	const head = "event_id = a\nkind = b\ntime = c\norg = d\nregion = e\n"
	for _, c := range []struct{ name, text, want string }{
		{"a line without an equals sign", head + "codes", "line 6"},
		{"a line without a column", head + "codes = ", "line 6"},
		{"a field nobody knows", head + "\n# x\ncolour = x", `line 8: an event has no field "colour"`},
		{"a field twice", head + "org = x", `line 6: field "org"`},
		{"a constant without its end", head + `drug = "x`, "line 6"},
		{"a required field without a line", "event_id = a\nkind = b\ntime = c\norg = d\n", `"region"`},
		{"nothing", "", `"event_id"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := schema.ParseMapping(strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %s", err, c.want)
			}
		})
	}
}

func TestMappingScansOneRow(t *testing.T) {
	m := mapping(t, "event_id=id\nkind=kind\ntime=t\norg=o\nregion=r\nreverses=of\nvoid_kind=kinds\n")
	header := []string{"o", "id", "kind", "t", "r", "of", "kinds"}
	got, refusal := m.Scan(header, []string{"P42", "V1", "void", "2026-01-05 10:11:12", "420106", "A1", "sale purchase"})
	want := `{"event_id":"V1","kind":"void","time":"2026-01-05T10:11:12+08:00","org":"P42","region":"420106","reverses":"A1","void_kind":["sale","purchase"]}`
	if refusal != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, refusal, want)
	}
	if err := m.Check(header[1:]); err == nil || !strings.Contains(err.Error(), `"o"`) {
		t.Errorf("got %v, want the column that is missing", err)
	}
	if _, refusal := m.Scan(header[1:], header[1:]); refusal == nil {
		t.Error("got no refusal for a header that lacks a column")
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add(plainHeader + "A1,2026-01-05 10:11:12,1;2,是,+02.5,1e3,20270930,x,y,z\n")
	f.Add(plainHeader + "\"\n,\"\"\xff")
	f.Fuzz(func(t *testing.T, file string) {
		m, err := schema.ParseMapping(strings.NewReader(plainMapping))
		if err != nil {
			t.Fatal(err)
		}
		_ = schema.ReadCSV(strings.NewReader(file), m, func(r schema.Row) error {
			var s schema.Scan
			if r.Refusal == nil {
				if refusal := s.DecodeJSON(r.JSON); refusal != nil && (refusal.Code == schema.RefuseJSON || refusal.Code == schema.RefuseEncoding || refusal.Code == schema.RefuseType) {
					t.Errorf("%v in what a row became: %s", refusal, r.JSON)
				}
			}
			return nil
		})
	})
}
