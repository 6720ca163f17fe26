package schema_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"yaosu/schema"
)

const wholeEvent = `{"event_id":"A-1","kind":"sale_return","time":"2026-01-05T10:11:12.5+08:00","sent":"2026-01-05T02:12:00Z",
 "org":"P42010600013","region":"420106","codes":["83857930000879766660","01069245618840742112"],"device":"POS2",
 "drug":"XA06BC665213","lot":"251021","made":"2025-10-24","expires":"2027-09-30","split":true,"quantity":2.5,"price":12.5,
 "days":7,"pay":"insured","settlement":"S1","fund_pay":0,"visit":"V1","person":"6401041524751277","person_region":"640104",
 "credential":"ecard","setting":"pharmacy","doctor":"王医生","doctor_id":"D1","pharmacist":"李药师","pharmacist_id":"Y1",
 "operator":"op1","rx":"R1","doc":"D12048830","batch_no":"B1","supplier":"某医药公司","reverses":"A-0"}`

func TestEveryFieldOfTheContractIsRead(t *testing.T) {
	want := schema.Scan{
		EventID: "A-1", Kind: schema.SaleReturn,
		Time: time.Date(2026, 1, 5, 10, 11, 12, 5e8, schema.Shanghai),
		Sent: time.Date(2026, 1, 5, 10, 12, 0, 0, schema.Shanghai),
		Org:  "P42010600013", Region: "420106",
		Codes:  []string{"83857930000879766660", "01069245618840742112"},
		Device: "POS2", Drug: "XA06BC665213", Lot: "251021",
		Made:    time.Date(2025, 10, 24, 0, 0, 0, 0, time.UTC),
		Expires: time.Date(2027, 9, 30, 0, 0, 0, 0, time.UTC),
		Split:   true, Quantity: schema.Number{Micro: 2_500_000, Known: true},
		Price: schema.Number{Micro: 12_500_000, Known: true}, Days: schema.Whole(7), FundPay: schema.Whole(0),
		Pay: "insured", Settlement: "S1", Visit: "V1", Person: "6401041524751277", PersonRegion: "640104",
		Credential: "ecard", Setting: "pharmacy", Doctor: "王医生", DoctorID: "D1", Pharmacist: "李药师",
		PharmacistID: "Y1", Operator: "op1", Rx: "R1", Doc: "D12048830", BatchNo: "B1", Supplier: "某医药公司", Reverses: "A-0",
	}
	var got schema.Scan
	if refusal := got.DecodeJSON([]byte(wholeEvent)); refusal != nil {
		t.Fatalf("got refusal %v, want none", refusal)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A field that is added to Scan must be added here too.
	value := reflect.ValueOf(got)
	for i := range value.NumField() {
		name := value.Type().Field(i).Name
		if value.Field(i).IsZero() && name != "VoidKinds" && name != "Unknown" {
			t.Errorf("field %s is not covered by the event above", name)
		}
	}
}

// event returns a small valid sale with changes made: a nil value takes the
// field out, a json.RawMessage stands as it is.
func event(changes map[string]any) string {
	fields := map[string]any{
		"event_id": "E1", "kind": "sale", "time": "2026-01-05T10:11:12+08:00",
		"org": "P42", "region": "420106", "codes": []string{"83857930000879766660"},
	}
	for name, value := range changes {
		fields[name] = value
		if value == nil {
			delete(fields, name)
		}
	}
	out, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func with(field string, value any) string { return event(map[string]any{field: value}) }

func void(changes map[string]any) string {
	all := map[string]any{"kind": "void", "codes": nil, "reverses": "E0"}
	for name, value := range changes {
		all[name] = value
	}
	return event(all)
}

func TestDecodeRefuses(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	many := make([]string, schema.MaxCodes+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	type fault struct {
		name, event, code, field string
	}
	faults := []fault{
		{"nothing at all", ``, schema.RefuseJSON, ""},
		{"a word", `hello`, schema.RefuseJSON, ""},
		{"an array", `[` + event(nil) + `]`, schema.RefuseJSON, ""},
		{"a string", `"x"`, schema.RefuseJSON, ""},
		{"null", `null`, schema.RefuseJSON, ""},
		{"an empty object", `{}`, schema.RefuseMissing, "event_id"},
		{"an object that is cut off", event(nil)[:40], schema.RefuseJSON, "codes"},
		{"a second object behind it", event(nil) + event(nil), schema.RefuseJSON, ""},
		{"garbage behind it", event(nil) + `x`, schema.RefuseJSON, ""},
		{"a bracket behind it", event(nil) + `}`, schema.RefuseJSON, ""},
		{"a comma before the end", `{"event_id":"E1",}`, schema.RefuseJSON, "event_id"},
		{"a field without a value", `{"event_id":,"org":"P42"}`, schema.RefuseJSON, "event_id"},
		{"a word that is no literal", with("split", nil)[:1] + `"split":ture,` + event(nil)[1:], schema.RefuseJSON, "split"},
		{"a raw control character in a string", with("lot", nil)[:1] + "\"lot\":\"a\tb\"," + event(nil)[1:], schema.RefuseJSON, "lot"},
		{"a field twice", `{"org":"P1","org":"P1",` + event(nil)[1:], schema.RefuseJSON, "org"},
		{"a field twice, once null", `{"person":null,"person":"1",` + event(nil)[1:], schema.RefuseJSON, "person"},
		{"GBK instead of UTF-8", strings.Replace(with("operator", "OP"), "OP", "\xcd\xf5", 1), schema.RefuseEncoding, ""},
		{"a nesting bomb in an unknown field", `{"x":` + strings.Repeat("[", 1_000_000), schema.RefuseJSON, ""},
		{"a nesting bomb of objects", `{"x":` + strings.Repeat(`{"a":`, 1_000_000), schema.RefuseJSON, ""},
		{"a nesting bomb as codes", `{"codes":` + strings.Repeat("[", 1_000_000), schema.RefuseJSON, "codes"},

		{"an id of 65 characters", with("event_id", strings.Repeat("a", 65)), schema.RefuseLength, "event_id"},
		{"an id in Chinese", with("event_id", "单号1"), schema.RefuseFormat, "event_id"},
		{"an id with a line feed", with("event_id", "a\nb"), schema.RefuseFormat, "event_id"},
		{"an id with DEL", with("event_id", "a\x7fb"), schema.RefuseFormat, "event_id"},
		{"an id of blanks", with("event_id", "  "), schema.RefuseFormat, "event_id"},
		{"an id that is a number", with("event_id", 7), schema.RefuseType, "event_id"},
		{"a kind nobody knows", with("kind", "gift"), schema.RefuseValue, "kind"},
		{"a kind in capitals", with("kind", "SALE"), schema.RefuseValue, "kind"},
		{"a kind that is a number", with("kind", 3505), schema.RefuseType, "kind"},
		{"a time without offset", with("time", "2026-01-05T10:11:12"), schema.RefuseFormat, "time"},
		{"a time with a blank instead of T", with("time", "2026-01-05 10:11:12+08:00"), schema.RefuseFormat, "time"},
		{"a time that is a date", with("time", "2026-01-05"), schema.RefuseFormat, "time"},
		{"a time on 30 February", with("time", "2026-02-30T10:11:12+08:00"), schema.RefuseFormat, "time"},
		{"a time at 24 o'clock", with("time", "2026-01-05T24:00:00+08:00"), schema.RefuseFormat, "time"},
		{"a time with a point and no fraction", with("time", "2026-01-05T10:11:12.+08:00"), schema.RefuseFormat, "time"},
		{"a time with a comma", with("time", "2026-01-05T10:11:12,5+08:00"), schema.RefuseFormat, "time"},
		{"a time with an offset of 24 hours", with("time", "2026-01-05T10:11:12+24:00"), schema.RefuseFormat, "time"},
		{"a time with an offset without colon", with("time", "2026-01-05T10:11:12+0800"), schema.RefuseFormat, "time"},
		{"a time with something behind it", with("time", "2026-01-05T10:11:12Z "), schema.RefuseFormat, "time"},
		{"a time as a number of seconds", with("time", 1767579072), schema.RefuseType, "time"},
		{"a time in the year 0", with("time", "0000-01-05T10:11:12Z"), schema.RefuseRange, "time"},
		{"a time that is 10000 in Shanghai", with("time", "9999-12-31T23:00:00Z"), schema.RefuseRange, "time"},
		{"a bad sent", with("sent", "yesterday"), schema.RefuseFormat, "sent"},
		{"an org with a point", with("org", "P.42"), schema.RefuseFormat, "org"},
		{"an org with a blank", with("org", "P 42"), schema.RefuseFormat, "org"},
		{"an org of 33 characters", with("org", strings.Repeat("P", 33)), schema.RefuseLength, "org"},
		{"a region of 5 digits", with("region", "42010"), schema.RefuseFormat, "region"},
		{"a region of 7 digits", with("region", "4201060"), schema.RefuseFormat, "region"},
		{"a region with a letter", with("region", "42010a"), schema.RefuseFormat, "region"},
		{"a region with full-width digits", with("region", "４２"), schema.RefuseFormat, "region"},
		{"a region that is a number", with("region", 420106), schema.RefuseType, "region"},
		{"a person region that is no region", with("person_region", "42"), schema.RefuseFormat, "person_region"},

		{"a sale without codes", with("codes", nil), schema.RefuseCodes, "codes"},
		{"a sale with an empty list of codes", with("codes", []string{}), schema.RefuseCodes, "codes"},
		{"a return without codes", event(map[string]any{"kind": "sale_return", "codes": nil}), schema.RefuseCodes, "codes"},
		{"1001 codes", with("codes", many), schema.RefuseCodes, "codes"},
		{"codes as one string", with("codes", "83857930000879766660"), schema.RefuseType, "codes"},
		{"a code that is a number", with("codes", raw(`[83857930000879766660]`)), schema.RefuseType, "codes"},
		{"a code that is null", with("codes", raw(`[null]`)), schema.RefuseType, "codes"},
		{"a void with codes", void(map[string]any{"codes": []string{"1"}}), schema.RefuseCodes, "codes"},
		{"a void of voids", void(map[string]any{"void_kind": []string{"sale", "void"}}), schema.RefuseValue, "void_kind"},
		{"a void of an unknown kind", void(map[string]any{"void_kind": "gift"}), schema.RefuseValue, "void_kind"},
		{"a void kind that is a number", void(map[string]any{"void_kind": 1}), schema.RefuseType, "void_kind"},
		{"a list of void kinds with a number", void(map[string]any{"void_kind": []any{"sale", 1}}), schema.RefuseType, "void_kind"},

		{"a made on 31 April", with("made", "2025-04-31"), schema.RefuseFormat, "made"},
		{"a made on 29 February 2025", with("made", "2025-02-29"), schema.RefuseFormat, "made"},
		{"a made in month 13", with("made", "2025-13-01"), schema.RefuseFormat, "made"},
		{"an expires of eight digits", with("expires", "20270930"), schema.RefuseFormat, "expires"},
		{"an expires with a time", with("expires", "2027-09-30T00:00:00Z"), schema.RefuseFormat, "expires"},
		{"an expires that is a number", with("expires", 20270930), schema.RefuseType, "expires"},
		{"split as 1", with("split", 1), schema.RefuseType, "split"},
		{"split as a string", with("split", "true"), schema.RefuseType, "split"},
		{"a quantity as a string", with("quantity", "2"), schema.RefuseType, "quantity"},
		{"a quantity of 0", with("quantity", 0), schema.RefuseRange, "quantity"},
		{"a quantity below 0", with("quantity", -1), schema.RefuseRange, "quantity"},
		{"a quantity that rounds to 0", with("quantity", raw("0.0000004")), schema.RefuseRange, "quantity"},
		{"a quantity of 13 digits", with("quantity", raw("1000000000000")), schema.RefuseRange, "quantity"},
		{"a quantity that rounds to 13 digits", with("quantity", raw("999999999999.9999999")), schema.RefuseRange, "quantity"},
		{"a quantity beyond all numbers", with("quantity", raw("1e99999999999999999999")), schema.RefuseRange, "quantity"},
		{"a quantity below all numbers", with("quantity", raw("1e-99999999999999999999")), schema.RefuseRange, "quantity"},
		{"a quantity of -1e99", with("quantity", raw("-1e99")), schema.RefuseRange, "quantity"},
		{"days of 0", with("days", 0), schema.RefuseRange, "days"},
		{"a price below 0", with("price", raw("-0.01")), schema.RefuseRange, "price"},
		{"a price that rounds to 0 from below", with("price", raw("-0.00000001")), schema.RefuseRange, "price"},
		{"a price as a string", with("price", "1.00"), schema.RefuseType, "price"},
		{"a price of true", with("price", true), schema.RefuseType, "price"},
		{"a fund_pay below 0", with("fund_pay", -5), schema.RefuseRange, "fund_pay"},
		{"a number with a leading zero", with("fund_pay", nil)[:1] + `"fund_pay":012,` + event(nil)[1:], schema.RefuseJSON, "fund_pay"},
		{"NaN", with("price", nil)[:1] + `"price":NaN,` + event(nil)[1:], schema.RefuseJSON, "price"},
		{"a payer nobody knows", with("pay", "cash"), schema.RefuseValue, "pay"},
		{"a credential nobody knows", with("credential", "passport"), schema.RefuseValue, "credential"},
		{"a setting nobody knows", with("setting", "home"), schema.RefuseValue, "setting"},
		{"a person that is a number", with("person", 6401041524751277), schema.RefuseType, "person"},
		{"a person that is an object", with("person", raw(`{"id":"6401041524751277"}`)), schema.RefuseType, "person"},
	}
	for name, max := range map[string]int{
		"device": 64, "drug": 50, "lot": 30, "settlement": 30, "visit": 30, "person": 64, "doctor": 64, "doctor_id": 64,
		"pharmacist": 64, "pharmacist_id": 64, "operator": 64, "rx": 40, "doc": 50, "batch_no": 30, "supplier": 200, "reverses": 64,
	} {
		faults = append(faults, fault{name + " one character too long", with(name, strings.Repeat("药", max+1)), schema.RefuseLength, name})
		var s schema.Scan
		if refusal := s.DecodeJSON([]byte(with(name, strings.Repeat("药", max)))); refusal != nil {
			t.Errorf("%s of %d characters: got %v, want no refusal", name, max, refusal)
		}
	}
	for _, name := range []string{"event_id", "kind", "time", "org", "region"} {
		faults = append(faults,
			fault{"no " + name, with(name, nil), schema.RefuseMissing, name},
			fault{name + " null", with(name, raw("null")), schema.RefuseMissing, name},
			fault{name + " empty", with(name, ""), schema.RefuseMissing, name})
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := schema.Scan{Org: "left over", Region: "left over", EventID: "left over"}
			refusal := s.DecodeJSON([]byte(f.event))
			if refusal == nil {
				t.Fatalf("got no refusal, want %s of %q\n%.300s", f.code, f.field, f.event)
			}
			if refusal.Code != f.code || refusal.Field != f.field {
				t.Errorf("got %s of %q (%v), want %s of %q\n%.300s", refusal.Code, refusal.Field, refusal, f.code, f.field, f.event)
			}
			if refusal.Reason == "" {
				t.Error("got no reason")
			}
			// All faults but those of the subject itself leave it readable.
			if strings.HasPrefix(f.event, `{"`) && strings.HasSuffix(f.event, `}`) && len(f.event) > 100 {
				if f.field != "org" && s.Org != "P42" || f.field != "region" && s.Region != "420106" || f.field != "event_id" && s.EventID != "E1" {
					t.Errorf("got org %q, region %q, event_id %q; want them read", s.Org, s.Region, s.EventID)
				}
			}
			if strings.Contains(s.Org+s.Region+s.EventID, "left over") {
				t.Error("the last event was not cleared")
			}
			if strings.Contains(refusal.Error(), "64010415") {
				t.Errorf("the refusal quotes the person: %v", refusal)
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	empty := map[string]any{}
	null := map[string]any{}
	for _, name := range []string{
		"sent", "device", "drug", "lot", "made", "expires", "pay", "settlement", "visit", "person", "person_region", "credential", "setting", "doctor",
		"doctor_id", "pharmacist", "pharmacist_id", "operator", "rx", "doc", "batch_no", "supplier", "reverses", "void_kind",
	} {
		empty[name], null[name] = "", raw("null")
	}
	for _, name := range []string{"split", "quantity", "price", "days", "fund_pay"} {
		null[name] = raw("null")
	}
	micro := func(n int64) schema.Number { return schema.Number{Micro: n, Known: true} }
	for _, c := range []struct {
		name, event string
		check       func(s *schema.Scan) (got, want any)
	}{
		{"null is absent", event(null), func(s *schema.Scan) (any, any) {
			return *s, schema.Scan{EventID: "E1", Kind: "sale", Time: s.Time, Org: "P42", Region: "420106", Codes: s.Codes}
		}},
		{"an empty string is absent", event(empty), func(s *schema.Scan) (any, any) {
			return *s, schema.Scan{EventID: "E1", Kind: "sale", Time: s.Time, Org: "P42", Region: "420106", Codes: s.Codes}
		}},
		{"unknown fields are counted", `{"a":1,"b":{"c":[1,2,{}]},"Org":"x","d":null,` + event(nil)[1:],
			func(s *schema.Scan) (any, any) { return s.Unknown, 4 }},
		{"blanks around it", " \r\n" + event(nil) + "\n\t ", func(s *schema.Scan) (any, any) { return s.EventID, "E1" }},
		{"names written with escapes", `{"per\u0073on":"7",` + event(nil)[1:], func(s *schema.Scan) (any, any) { return s.Person, "7" }},
		{"strings written with escapes", with("codes", []string{"a\x1db\"\\/\u4e2d", "😀"}),
			func(s *schema.Scan) (any, any) { return s.Codes, []string{"a\x1db\"\\/中", "😀"} }},
		{"empty codes are kept for the classifier", with("codes", []string{"", " 1 ", "无"}),
			func(s *schema.Scan) (any, any) { return s.Codes, []string{"", " 1 ", "无"} }},
		{"a purchase without codes", event(map[string]any{"kind": "purchase", "codes": nil}), func(s *schema.Scan) (any, any) { return len(s.Codes), 0 }},
		{"a stock take with an empty list", event(map[string]any{"kind": "stock_take", "codes": []string{}}), func(s *schema.Scan) (any, any) { return s.Codes == nil, true }},
		{"a void with an empty list", void(map[string]any{"codes": []string{}}), func(s *schema.Scan) (any, any) { return s.Reverses, "E0" }},
		{"a void by settlement", void(map[string]any{"reverses": nil, "settlement": "S"}), func(s *schema.Scan) (any, any) { return s.Settlement, "S" }},
		{"a void by batch", void(map[string]any{"reverses": nil, "batch_no": "B"}), func(s *schema.Scan) (any, any) { return s.BatchNo, "B" }},
		{"void kinds as a list", void(map[string]any{"void_kind": []string{"purchase", "sale", "purchase"}}),
			func(s *schema.Scan) (any, any) { return s.VoidKinds, []schema.Kind{"purchase", "sale"} }},
		{"a void kind as one string", void(map[string]any{"void_kind": "purchase"}), func(s *schema.Scan) (any, any) { return s.VoidKinds, []schema.Kind{"purchase"} }},
		{"void kinds on a sale say nothing", with("void_kind", []string{"sale"}), func(s *schema.Scan) (any, any) { return len(s.VoidKinds), 0 }},
		{"an id with blanks and marks", with("event_id", "a b~!/"), func(s *schema.Scan) (any, any) { return s.EventID, "a b~!/" }},
		{"an id of 64 characters", with("event_id", strings.Repeat("x", 64)), func(s *schema.Scan) (any, any) { return len(s.EventID), 64 }},
		{"an org of 32 characters", with("org", strings.Repeat("_", 32)), func(s *schema.Scan) (any, any) { return len(s.Org), 32 }},
		{"a time in UTC", with("time", "2026-01-05T02:11:12Z"), func(s *schema.Scan) (any, any) {
			return s.Time, time.Date(2026, 1, 5, 10, 11, 12, 0, schema.Shanghai)
		}},
		{"a time in small letters", with("time", "2026-01-05t02:11:12z"), func(s *schema.Scan) (any, any) {
			return s.Time, time.Date(2026, 1, 5, 10, 11, 12, 0, schema.Shanghai)
		}},
		{"a time west of Greenwich with 12 places", with("time", "2026-01-04T21:41:12.123456789987-04:30"), func(s *schema.Scan) (any, any) {
			return s.Time, time.Date(2026, 1, 5, 10, 11, 12, 123456789, schema.Shanghai)
		}},
		{"a leap day", with("time", "2024-02-29T23:59:59+08:00"), func(s *schema.Scan) (any, any) { return s.Time.Day(), 29 }},
		{"a clock that was never set", with("time", "1970-01-01T00:00:00+08:00"), func(s *schema.Scan) (any, any) { return s.Time.Year(), 1970 }},
		{"a date of year 1 is none", with("made", "0001-01-01"), func(s *schema.Scan) (any, any) { return s.Made.IsZero(), true }},
		{"a number with an exponent", with("quantity", raw("25E-1")), func(s *schema.Scan) (any, any) { return s.Quantity, micro(2_500_000) }},
		{"a number with a large exponent", with("quantity", raw("0.0000000001e12")), func(s *schema.Scan) (any, any) { return s.Quantity, micro(100_000_000) }},
		{"12 digits before the point", with("price", raw("999999999999.999999")), func(s *schema.Scan) (any, any) { return s.Price, micro(999_999_999_999_999_999) }},
		{"rounding half up", with("price", raw("0.0000005")), func(s *schema.Scan) (any, any) { return s.Price, micro(1) }},
		{"rounding down", with("price", raw("1.00000049999999999999999999999999999")), func(s *schema.Scan) (any, any) { return s.Price, micro(1_000_000) }},
		{"a price too small to count", with("price", raw("1e-9")), func(s *schema.Scan) (any, any) { return s.Price, micro(0) }},
		{"minus nothing", with("fund_pay", raw("-0.0")), func(s *schema.Scan) (any, any) { return s.FundPay, micro(0) }},
		{"nothing times ten to a lot", with("fund_pay", raw("0e99999999999999999999")), func(s *schema.Scan) (any, any) { return s.FundPay, micro(0) }},
		{"18.0 is 18", with("price", raw("18.0")), func(s *schema.Scan) (any, any) { return s.Price, schema.Whole(18) }},
		{"split false", with("split", false), func(s *schema.Scan) (any, any) { return s.Split, false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s schema.Scan
			if refusal := s.DecodeJSON([]byte(c.event)); refusal != nil {
				t.Fatalf("got refusal %v, want none\n%s", refusal, c.event)
			}
			if got, want := c.check(&s); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestARefusedEventStillNamesItsSender(t *testing.T) {
	for _, c := range []struct{ name, event string }{
		{"cut off", `{"org":"P42","region":"420106","event_id":"E1","person":"6401041524751277`},
		{"broken before the sender", `{"price":1.,"person":6401041524751277x,"event_id":"E1","org":"P42","region":"420106"}`},
		{"not UTF-8", "{\"doctor\":\"\xcd\xf5\",\"event_id\" : \"E1\",\"org\": \"P42\",\"region\":\"420106\"}"},
		{"refused before the sender", `{"price":-1,"person":["6401041524751277"],"event_id":"E1","org":"P42","region":"420106"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s schema.Scan
			refusal := s.DecodeJSON([]byte(c.event))
			if refusal == nil {
				t.Fatal("got no refusal")
			}
			if s.Org != "P42" || s.Region != "420106" || s.EventID != "E1" {
				t.Errorf("got org %q, region %q, event_id %q; want P42, 420106, E1", s.Org, s.Region, s.EventID)
			}
			if strings.Contains(refusal.Error(), "64010415") {
				t.Errorf("the refusal quotes the person: %v", refusal)
			}
		})
	}
}

func TestADecodedScanOutlivesItsBytes(t *testing.T) {
	data := []byte(wholeEvent)
	var s schema.Scan
	if refusal := s.DecodeJSON(data); refusal != nil {
		t.Fatal(refusal)
	}
	kept := s
	before := string(kept.AppendJSON(nil))
	for i := range data {
		data[i] = 'x'
	}
	if refusal := s.DecodeJSON([]byte(with("codes", []string{"other", "codes"}))); refusal != nil {
		t.Fatal(refusal)
	}
	if after := string(kept.AppendJSON(nil)); after != before {
		t.Errorf("got %s\nwant %s", after, before)
	}
}

func TestAppendWritesTheWireForm(t *testing.T) {
	s := schema.Scan{
		EventID: "E1", Kind: schema.Void, Time: time.Date(2026, 1, 5, 2, 11, 12, 0, time.UTC),
		Sent: time.Date(2026, 1, 5, 2, 11, 12, 120e6, time.UTC), Org: "P42", Region: "420106",
		Made: time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC), Quantity: schema.Number{Micro: 1_050_000, Known: true}, FundPay: schema.Number{Known: true},
		Settlement: "S\"1", VoidKinds: []schema.Kind{schema.Sale, schema.Purchase},
	}
	want := `x{"event_id":"E1","kind":"void","time":"2026-01-05T10:11:12+08:00","sent":"2026-01-05T10:11:12.120+08:00","org":"P42","region":"420106",` +
		`"made":"2025-01-02","quantity":1.05,"settlement":"S\"1","fund_pay":0,"void_kind":["sale","purchase"]}`
	if got := string(s.AppendJSON([]byte("x"))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// drawScan makes any event the contract allows.
func drawScan(t *rapid.T) schema.Scan {
	text := func(name string, max int) string {
		return rapid.StringOfN(rapid.Rune(), 0, max, -1).Filter(utf8.ValidString).Draw(t, name)
	}
	oneOf := func(name string, values ...string) string { return rapid.SampledFrom(values).Draw(t, name) }
	instant := func(name string) time.Time {
		seconds := rapid.Int64Range(-62135596800, 253402271999).Draw(t, name)
		nanos := rapid.SampledFrom([]int64{0, 1e6, 264237000, 999999999}).Draw(t, name+" nanos")
		return time.Unix(seconds, nanos).In(schema.Shanghai)
	}
	day := func(name string) time.Time {
		if !rapid.Bool().Draw(t, name+" known") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(-719162, 2932896).Draw(t, name)*86400, 0).UTC()
	}
	number := func(name string, min int64) schema.Number {
		if !rapid.Bool().Draw(t, name+" known") {
			return schema.Number{}
		}
		return schema.Number{Micro: rapid.Int64Range(min, 1e18-1).Draw(t, name), Known: true}
	}
	s := schema.Scan{
		EventID: rapid.StringMatching(`[!-~][ -~]{0,63}`).Draw(t, "event_id"),
		Kind:    rapid.SampledFrom(schema.Kinds).Draw(t, "kind"),
		Time:    instant("time"),
		Org:     rapid.StringMatching(`[A-Za-z0-9_-]{1,32}`).Draw(t, "org"),
		Region:  rapid.StringMatching(`[0-9]{6}`).Draw(t, "region"),
		Device:  text("device", 64), Drug: text("drug", 50), Lot: text("lot", 30),
		Made: day("made"), Expires: day("expires"), Split: rapid.Bool().Draw(t, "split"),
		Quantity: number("quantity", 1), Price: number("price", 0), Days: number("days", 1), FundPay: number("fund_pay", 0),
		Pay: oneOf("pay", "", "insured", "self"), Settlement: text("settlement", 30), Visit: text("visit", 30), Person: text("person", 64),
		PersonRegion: rapid.StringMatching(`([0-9]{6})?`).Draw(t, "person_region"),
		Credential:   oneOf("credential", "", "ecard", "idcard", "sscard"),
		Setting:      oneOf("setting", "", "pharmacy", "outpatient", "inpatient", "other"),
		Doctor:       text("doctor", 64), DoctorID: text("doctor_id", 64), Pharmacist: text("pharmacist", 64), PharmacistID: text("pharmacist_id", 64),
		Operator: text("operator", 64), Rx: text("rx", 40), Doc: text("doc", 50), BatchNo: text("batch_no", 30), Supplier: text("supplier", 200),
		Reverses: text("reverses", 64),
	}
	if rapid.Bool().Draw(t, "sent known") {
		s.Sent = instant("sent")
		if s.Sent.IsZero() {
			s.Sent = time.Time{}
		}
	}
	if s.Kind == schema.Void {
		s.Settlement = "S"
		s.VoidKinds = rapid.SampledFrom([][]schema.Kind{nil, {schema.Sale}, {schema.Purchase, schema.StockTake}}).Draw(t, "void_kind")
		return s
	}
	least := 0
	if s.Kind == schema.Sale || s.Kind == schema.SaleReturn {
		least = 1
	}
	if codes := rapid.SliceOfN(rapid.String().Filter(utf8.ValidString), least, 20).Draw(t, "codes"); len(codes) > 0 {
		s.Codes = codes
	}
	return s
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawScan(t)
		data := want.AppendJSON(nil)
		if !json.Valid(data) {
			t.Fatalf("not JSON: %s", data)
		}
		var got schema.Scan
		if refusal := got.DecodeJSON(data); refusal != nil {
			t.Fatalf("got refusal %v, want none\n%s", refusal, data)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v\n%s", got, want, data)
		}
	})
}

// RFC 3339 is a subset of what time.Parse takes: where both take a time they
// must mean the same one.
func TestTimesMeanWhatTheStandardLibraryReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-2208988800, 7258118400).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanos"))
		offset := rapid.IntRange(-23*60, 23*60).Draw(t, "offset in minutes")
		text := at.In(time.FixedZone("", offset*60)).Format(time.RFC3339Nano)
		var s schema.Scan
		if refusal := s.DecodeJSON([]byte(with("time", text))); refusal != nil {
			t.Fatalf("%s: got refusal %v", text, refusal)
		}
		if !s.Time.Equal(at) {
			t.Fatalf("%s: got %v, want %v", text, s.Time, at)
		}
	})
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(wholeEvent))
	f.Add([]byte(event(nil)))
	f.Add([]byte(void(map[string]any{"void_kind": []string{"sale"}})))
	f.Add([]byte(`{"quantity":1e-7,"price":-0,"days":12345678901234567890.5E-9,"person":"6401041524751277"`))
	f.Add([]byte(`{"time":"2024-02-29T23:59:60.999999999999Z","made":"0000-00-00","codes":["\ud800\u001d"]}`))
	f.Add([]byte(`{"event_id" : "E\\1","codes":["a\u001d",""],"price":0.12345678,"split":false,"x":"\ud83d\ude00","y":{"z":[1]},"supplier":"药"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d schema.Decoder
		d.Decode([]byte(wholeEvent))
		checkDecoders(t, &d, data)
		var s schema.Scan
		if refusal := s.DecodeJSON(data); refusal != nil {
			if refusal.Code == "" || refusal.Reason == "" {
				t.Errorf("a refusal without code or reason: %+v", refusal)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted what is not JSON: %q", data)
		}
		s.Unknown = 0
		wire := s.AppendJSON(nil)
		var again schema.Scan
		if refusal := again.DecodeJSON(wire); refusal != nil {
			t.Fatalf("%v in what was written: %s", refusal, wire)
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("got  %+v\nwant %+v", again, s)
		}
	})
}

func BenchmarkDecodeJSON(b *testing.B) {
	for _, c := range []struct{ name, event string }{
		{"usual sale", `{"event_id": "E42-00014564", "kind": "sale", "time": "2026-03-03T09:29:48.264237+08:00", "org": "P64010400010", "region": "640104", "codes": ["89084795400731767133"], "pay": "insured", "lot": "L1", "expires": "2028-12-31", "operator": "op1", "drug": "XA06BC665213", "price": 144.3251, "device": "POS2", "setting": "pharmacy", "settlement": "S42000006926", "person": "6401041524751277", "person_region": "640104", "credential": "ecard"}`},
		{"every field", wholeEvent},
	} {
		b.Run(c.name, func(b *testing.B) {
			data := []byte(c.event)
			var s schema.Scan
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if refusal := s.DecodeJSON(data); refusal != nil {
					b.Fatal(refusal)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	var s schema.Scan
	if refusal := s.DecodeJSON([]byte(wholeEvent)); refusal != nil {
		b.Fatal(refusal)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = s.AppendJSON(buf[:0])
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
