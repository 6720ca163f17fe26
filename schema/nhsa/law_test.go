package nhsa_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"yaosu/schema"
	"yaosu/schema/nhsa"
)

// A row of the laws is what one line says, by the names of the interface. Its
// codes are under drugtracinfo, one a line.
type row map[string]string

// drawRow makes up a line that is taken by the interface, with a batch number of its own.
func drawRow(t *rapid.T, infno string, n int) row {
	r := row{"fixmedins_bchno": "B" + strconv.Itoa(n)}
	some := func(name, value string) {
		if rapid.Bool().Draw(t, name) {
			r[name] = value
		}
	}
	at := time.Date(2026, 1, 5, 8, 0, rapid.IntRange(0, 7200).Draw(t, "second"), 0, schema.Shanghai).Format("2006-01-02 15:04:05")
	count := rapid.IntRange(1, 3).Draw(t, "count")
	var codes []string
	for range count {
		codes = append(codes, "8385793"+fmt.Sprintf("%013d", rapid.IntRange(0, 5).Draw(t, "serial")))
	}
	some("med_list_codg", rapid.SampledFrom([]string{"XA10BA02001", "XC09AA02002"}).Draw(t, "drug"))
	some("fixmedins_hilist_id", rapid.SampledFrom([]string{"YP1", "YP2"}).Draw(t, "item"))
	some("manu_lotnum", "251021")
	some("manu_date", "2025-10-24")
	some("expy_end", "2027-09-30")
	switch infno {
	case "3501":
		r["invdate"], r["inv_cnt"] = at[:10], strconv.Itoa(count)
	case "3502":
		r["inv_chg_time"], r["cnt"], r["inv_chg_type"] = at, strconv.Itoa(count), rapid.SampledFrom([]string{"101", "102", "104", "105"}).Draw(t, "type")
		some("pric", "9.8")
	case "3503", "3504":
		r["purc_retn_stoin_time"], r["purc_retn_cnt"] = at, strconv.Itoa(count)
		some("spler_name", "某医药有限公司")
		some("dynt_no", "SH1")
		if rapid.Bool().Draw(t, "codes") {
			codes = nil
		}
	case "3505", "3506":
		r["sel_retn_time"], r["sel_retn_cnt"] = at, strconv.Itoa(count)
		some("setl_id", "S1")
		some("psn_no", "4201060012345678")
		some("rtal_docno", "R1")
		some("finl_trns_pric", "12.5")
		some("trdn_flag", "1")
		some("mdtrt_setl_type", "1")
		some("prsc_dr_name", "张医生")
	}
	if codes != nil {
		r["drugtracinfo"] = strings.Join(codes, "\n")
	}
	return r
}

func drawRows(t *rapid.T, infno string) (rows []row) {
	for n := range rapid.IntRange(1, 4).Draw(t, "rows") {
		rows = append(rows, drawRow(t, infno, n))
	}
	return rows
}

// A dialect is how a vendor writes.
type dialect struct {
	spelling, codes, times, input, node, numbers int
}

var plain = dialect{}

func drawDialect(t *rapid.T) dialect {
	n := func(name string, max int) int { return rapid.IntRange(0, max).Draw(t, name) }
	return dialect{n("spelling", 3), n("codes", 7), n("times", 4), n("input", 2), n("node", 3), n("numbers", 1)}
}

var numbers = []string{"sel_retn_cnt", "purc_retn_cnt", "cnt", "inv_cnt", "finl_trns_pric", "pric"}

func (d dialect) name(name string) string {
	switch d.spelling {
	case 1:
		return strings.ToUpper(name)
	case 2:
		words := strings.Split(name, "_")
		for i, word := range words[1:] {
			words[i+1] = strings.ToUpper(word[:1]) + word[1:]
		}
		return strings.Join(words, "")
	case 3:
		return strings.ToUpper(name[:1]) + name[1:]
	}
	return name
}

func wrapped(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// write makes a row as d writes it.
func (d dialect) write(r row) map[string]any {
	out := map[string]any{d.name("memo"): nil, d.name("psn_name"): ""}
	for name, value := range r {
		switch {
		case name == "drugtracinfo":
			codes := strings.Split(value, "\n")
			object := func(v any) map[string]any { return map[string]any{d.name("drug_trac_codg"): v} }
			var objects []any
			for _, code := range codes {
				objects = append(objects, object(code))
			}
			name = d.name(name)
			switch d.codes {
			case 0:
				out[name] = objects
			case 1:
				out[name] = codes
			case 2:
				out[name] = wrapped(objects)
			case 3:
				out[d.name("drug_trac_codg")] = strings.Join(codes, ",")
			case 4:
				out[name] = object(strings.Join(codes, "；"))
			case 5:
				out[name] = []any{map[string]any{d.name("drug_trac_code"): strings.Join(codes, " \r\n")}}
			case 6:
				out[d.name("drug_trac_info")] = wrapped(object(strings.Join(codes, "、")))
			case 7:
				out[name] = objects
				out[d.name("drug_trac_codg")] = strings.Join(codes, ";")
			}
			continue
		case strings.HasSuffix(name, "_time"):
			at, err := time.ParseInLocation("2006-01-02 15:04:05", value, schema.Shanghai)
			if err != nil {
				panic(err)
			}
			value = at.Format([]string{"2006-01-02 15:04:05", "2006-01-0215:04:05", "2006-01-02T15:04:05", "20060102150405", "2006-01-02 15:04:05.000"}[d.times])
		case slices.Contains(numbers, name) && d.numbers == 1:
			out[d.name(name)] = json.Number(value)
			continue
		}
		out[d.name(name)] = value
	}
	return out
}

// An envelope is what differs between a message and its retry.
type envelope struct {
	msgid, infTime, signNo, opter string
}

var first = envelope{"M1", "2026-01-05 10:11:20", "S1", "001"}

// message writes rows to one message of an interface, as a batch.
func (d dialect) message(infno string, e envelope, rows []row) []byte {
	node := map[string]string{"1": "invinfo", "2": "invinfo", "3": "purcinfo", "4": "purcinfo", "5": "selinfo", "6": "selinfo"}[infno[3:]]
	var list []any
	for _, r := range rows {
		list = append(list, d.write(r))
	}
	var value any = list
	switch {
	case d.node == 1 && len(list) == 1:
		value = list[0]
	case d.node == 2:
		value = wrapped(list)
	case d.node == 3:
		node = "purcinfo"
	}
	input := any(map[string]any{d.name(node + "Detail"): value})
	if d.input == 1 {
		input = wrapped(input)
	}
	whole := map[string]any{
		d.name("infno"): infno, d.name("msgid"): e.msgid, d.name("inf_time"): e.infTime, d.name("sign_no"): e.signNo, d.name("opter"): e.opter,
		d.name("opter_name"): e.opter, d.name("dev_no"): "POS1", d.name("mdtrtarea_admvs"): "420106", d.name("fixmedins_code"): "P42010600012",
	}
	if d.input == 2 {
		maps.Copy(whole, input.(map[string]any))
	} else {
		whole[d.name("input")] = input
	}
	return []byte(wrapped(whole))
}

func translate(t interface{ Fatalf(string, ...any) }, infno string, body []byte) []json.RawMessage {
	call, err := nhsa.Translate(infno, body, nil, received)
	if err != nil {
		t.Fatalf("translate %s: %v", body, err)
	}
	for i, row := range call.Rows {
		if row.Refusal != nil {
			t.Fatalf("translate %s: row %d: %v", body, i+1, row.Refusal)
		}
	}
	return call.Events()
}

func decode(t interface{ Fatalf(string, ...any) }, event []byte) schema.Scan {
	var s schema.Scan
	if why := s.DecodeJSON(event); why != nil {
		t.Fatalf("decode %s: %v", event, why)
	}
	return s
}

var moving = []string{"3501", "3502", "3503", "3504", "3505", "3506"}

func TestARetryGivesTheSameEventsWhateverIsNewInItsEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		infno := rapid.SampledFrom(moving).Draw(t, "infno")
		rows := drawRows(t, infno)
		again := envelope{"M2", "2026-01-06 08:00:00", "S2", "002"}
		was, is := translate(t, infno, plain.message(infno, first, rows)), translate(t, infno, plain.message(infno, again, rows))
		for i := range was {
			a, b := decode(t, was[i]), decode(t, is[i])
			if !b.Sent.Equal(time.Date(2026, 1, 6, 8, 0, 0, 0, schema.Shanghai)) {
				t.Errorf("sent %v, want the retry's", b.Sent)
			}
			b.Sent = a.Sent
			if got, want := b.AppendJSON(nil), a.AppendJSON(nil); !bytes.Equal(got, want) {
				t.Errorf("retry\ngot  %s\nwant %s", got, want)
			}
		}
	})
}

// A void and a settlement have a time and a number of the envelope in them; the
// retry is another upload, but it has the same name.
func TestARetryOfWhatHasNoTimeOfItsOwnHasTheSameID(t *testing.T) {
	for infno, input := range map[string]string{
		"3507": `{"data":{"fixmedins_bchno":"B1","inv_data_type":"4"}}`,
		"2208": `{"data":{"setl_id":"S1"}}`,
		"2601": `{"data":{"omsgid":"M0","oinfno":"2207"}}`,
		"2207": `{"data":{"mdtrt_id":"M77"},"drug_trac_info":[{"feedetl_sn":"F1","drug_trac_codg":"83857930000879766660"}]}`,
	} {
		id := func(e envelope) string {
			body := fmt.Appendf(nil, `{"msgid":%q,"inf_time":%q,"fixmedins_code":"H42010600003","mdtrtarea_admvs":"420106","input":%s}`, e.msgid, e.infTime, input)
			return decode(t, translate(t, infno, body)[0]).EventID
		}
		if a, b := id(first), id(envelope{msgid: "M2", infTime: "2026-01-06 08:00:00"}); a != b {
			t.Errorf("%s: got %s and %s, want one id", infno, a, b)
		}
	}
}

func TestADialectOfTheSameContentGivesTheSameEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		infno := rapid.SampledFrom(moving).Draw(t, "infno")
		rows := drawRows(t, infno)
		d := drawDialect(t)
		body := d.message(infno, first, rows)
		got, want := translate(t, infno, body), translate(t, infno, plain.message(infno, first, rows))
		if !slices.EqualFunc(got, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("%s\ngot  %s\nwant %s", body, got, want)
		}
	})
}

func TestABatchGivesWhatItsRowsGiveOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		infno := rapid.SampledFrom(moving).Draw(t, "infno")
		rows := drawRows(t, infno)
		var single []json.RawMessage
		for _, r := range rows {
			single = append(single, translate(t, infno, plain.message(infno, first, []row{r}))...)
		}
		got := translate(t, infno, plain.message(infno, first, rows))
		if !slices.EqualFunc(got, single, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("got  %s\nwant %s", got, single)
		}
	})
}

func TestACorrectedRowIsAnotherEvent(t *testing.T) {
	corrections := row{
		"fixmedins_bchno": "B99", "med_list_codg": "XB01AC06001", "fixmedins_hilist_id": "YP9", "manu_lotnum": "251022", "manu_date": "2025-10-25", "expy_end": "2027-10-31",
		"invdate": "2026-01-04", "inv_cnt": "77", "inv_chg_time": "2026-01-04 09:00:00", "cnt": "77", "pric": "9.9", "purc_retn_stoin_time": "2026-01-04 09:00:00",
		"purc_retn_cnt": "77", "spler_name": "另一公司", "dynt_no": "SH2", "sel_retn_time": "2026-01-04 09:00:00", "sel_retn_cnt": "77", "setl_id": "S2", "rtal_docno": "R2",
		"finl_trns_pric": "12.6", "trdn_flag": "0", "mdtrt_setl_type": "2", "prsc_dr_name": "李医生", "drugtracinfo": "83857930000879766660",
	}
	rapid.Check(t, func(t *rapid.T) {
		infno := rapid.SampledFrom(moving).Draw(t, "infno")
		r := drawRow(t, infno, 1)
		names := slices.Sorted(maps.Keys(r))
		names = slices.DeleteFunc(names, func(name string) bool { _, ok := corrections[name]; return !ok })
		name := rapid.SampledFrom(names).Draw(t, "name")
		corrected := maps.Clone(r)
		corrected[name] = corrections[name]
		was := decode(t, translate(t, infno, plain.message(infno, first, []row{r}))[0])
		is := decode(t, translate(t, infno, plain.message(infno, first, []row{corrected}))[0])
		if was.EventID == is.EventID {
			t.Errorf("%s corrected: both are %s", name, is.EventID)
		}
	})
}

// The id may be read by people who may not know the person.
func TestTheIDSaysNothingOfThePerson(t *testing.T) {
	id := func(person string) string {
		r := row{"fixmedins_bchno": "B1", "psn_no": person, "sel_retn_time": "2026-01-05 09:00:00", "drugtracinfo": "83857930000879766660"}
		return decode(t, translate(t, "3505", plain.message("3505", first, []row{r}))[0]).EventID
	}
	if a, b := id("4201060012345678"), id("4201060012345679"); a != b {
		t.Errorf("got %s and %s, want one id", a, b)
	}
}

func TestEqualRowsOfOneMessage(t *testing.T) {
	for _, c := range []struct {
		name  string
		infno string
		row   row
		ids   int // how many different ids two equal rows have
	}{
		{"a box that stands twice in a sale is one box", "3505", row{"sel_retn_time": "2026-01-05 09:00:00", "drugtracinfo": "83857930000879766660"}, 1},
		{"two boxes without a code are two", "3505", row{"sel_retn_time": "2026-01-05 09:00:00", "drugtracinfo": "无码"}, 2},
		{"two equal lines of a delivery note are two", "3503", row{"purc_retn_stoin_time": "2026-01-05 09:00:00", "purc_retn_cnt": "5"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := plain.message(c.infno, first, []row{c.row, c.row})
			events := translate(t, c.infno, body)
			a, b := decode(t, events[0]).EventID, decode(t, events[1]).EventID
			if ids := len(slices.Compact([]string{a, b})); ids != c.ids {
				t.Errorf("got %s and %s, want %d different", a, b, c.ids)
			}
			if again := translate(t, c.infno, body); !bytes.Equal(again[1], events[1]) {
				t.Errorf("retry: got %s, want %s", again[1], events[1])
			}
		})
	}
}

func TestNothingOfThePersonIsInARefusalOrAnAnswer(t *testing.T) {
	const person = "4201060012345678"
	for _, name := range []string{"fixmedins_bchno", "sel_retn_time", "sel_retn_cnt", "trdn_flag", "expy_end", "finl_trns_pric", "insuplc_admdvs", "prd_days"} {
		r := row{"sel_retn_time": "2026-01-05 09:00:00", "drugtracinfo": "83857930000879766660", "psn_no": person, "certno": person}
		r[name] = person + person
		call, err := nhsa.Translate("3505", fmt.Appendf(nil, `{"fixmedins_code":"P42010600012","mdtrtarea_admvs":"420106","input":{"selinfo":%s}}`, wrapped(r)), nil, received)
		if err != nil || len(call.Rows) != 1 || call.Rows[0].Refusal == nil {
			t.Fatalf("%s: got %v, %+v, want a refused row", name, err, call.Rows)
		}
		answer := string(call.Answer(received))
		// The row's own upload number is given back, whatever was put in it.
		answer = strings.ReplaceAll(answer, `"fixmedins_bchno":"`+person+person+`"`, "")
		if strings.Contains(answer, person) || strings.Contains(call.Rows[0].Refusal.Error(), person) {
			t.Errorf("%s: the answer or refusal holds the person: %s", name, answer)
		}
	}
}

func TestLimits(t *testing.T) {
	many := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	head := `{"fixmedins_code":"P42010600012","mdtrtarea_admvs":"420106","input":`
	for _, c := range []struct {
		name, infno, body string
		code              string // of the message
		row               string // of the first row
	}{
		{"as many rows as may be", "3503A", head + `{"purcinfoDetail":` + many(nhsa.MaxRows, `{"purc_retn_stoin_time":"20260105"}`) + `}}`, "", ""},
		{"a row too many", "3503A", head + `{"purcinfoDetail":` + many(nhsa.MaxRows+1, `{}`) + `}}`, schema.RefuseMessage, ""},
		{"a message too long", "3503A", strings.Repeat(" ", nhsa.MaxBytes) + "{}", schema.RefuseMessage, ""},
		{"as many codes as may be", "3503A", head + `{"purc_retn_stoin_time":"20260105","drugtracinfo":` + many(schema.MaxCodes, `"83857930000879766660"`) + `}}`, "", ""},
		{"a code too many", "3503A", head + `{"purc_retn_stoin_time":"20260105","drugtracinfo":` + many(schema.MaxCodes+1, `"83857930000879766660"`) + `}}`, "", schema.RefuseCodes},
		{"a code too many in a string", "3503A", head + `{"purc_retn_stoin_time":"20260105","drugtracinfo":"` + strings.Repeat("83857930000879766660,", schema.MaxCodes+1) + `"}}`, "", schema.RefuseCodes},
		{"lines of a bill", "2207", head + `{"drug_trac_info":` + many(nhsa.MaxRows+1, `"83857930000879766660"`) + `}}`, schema.RefuseMessage, ""},
		{"nested without end", "3503A", head + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, schema.RefuseJSON, ""},
		{"nested nodes", "3503A", head + strings.Repeat(`{"data":`, 1000) + `{}` + strings.Repeat("}", 1000) + `}`, "", schema.RefuseMissing},
		{"strings in strings", "3503A", head + wrapped(wrapped(wrapped(wrapped(wrapped(wrapped(wrapped(`{"purcinfo":{}}`))))))) + `}`, "", schema.RefuseMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			call, err := nhsa.Translate(c.infno, []byte(c.body), nil, received)
			code := ""
			if err != nil {
				code = err.(*schema.Refusal).Code
			}
			if code != c.code {
				t.Errorf("message: got %q (%v), want %q", code, err, c.code)
			}
			if err != nil {
				return
			}
			row := ""
			if why := call.Rows[0].Refusal; why != nil {
				row = why.Code
			}
			if row != c.row {
				t.Errorf("first row: got %q (%v), want %q", row, call.Rows[0].Refusal, c.row)
			}
		})
	}
}

// Any bytes give an event or a refusal for each row, twice the same, and an
// answer that can be read.
func FuzzTranslate(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.infno, s.body)
	}
	orgs := map[string]string{"P42010600012": "420106"}
	f.Fuzz(func(t *testing.T, infno string, body []byte) {
		call, err := nhsa.Translate(infno, body, orgs, received)
		if err != nil {
			if call == nil || len(call.Rows) > 0 || err.(*schema.Refusal).Reason == "" {
				t.Errorf("refused message: %v, %+v", err, call)
			}
			if !json.Valid(call.Refuse(nhsa.Why(err), received)) {
				t.Errorf("answer is no JSON: %s", call.Refuse(nhsa.Why(err), received))
			}
			return
		}
		for i, row := range call.Rows {
			if (row.Event == nil) == (row.Refusal == nil) || len(row.Raw) == 0 || !json.Valid(row.Raw) {
				t.Errorf("row %d: raw %q, event %s, refusal %v", i+1, row.Raw, row.Event, row.Refusal)
			}
			if row.Event == nil {
				continue
			}
			s := decode(t, row.Event)
			if len(s.EventID) > 64 || s.Org != call.Org || s.Region != call.Region || s.Unknown > 0 {
				t.Errorf("row %d: event %s of a call of %s in %s", i+1, row.Event, call.Org, call.Region)
			}
		}
		if !json.Valid(call.Answer(received)) {
			t.Errorf("answer is no JSON: %s", call.Answer(received))
		}
		again, err := nhsa.Translate(infno, body, orgs, received)
		if err != nil || !slices.EqualFunc(call.Events(), again.Events(), func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("the second time: %v, %s, before %s", err, again.Events(), call.Events())
		}
	})
}

func BenchmarkTranslate(b *testing.B) {
	var rows []row
	for n := range 50 {
		rows = append(rows, row{
			"fixmedins_bchno": "B" + strconv.Itoa(n), "med_list_codg": "XA10BA02001", "fixmedins_hilist_id": "YP0001", "prsc_dr_name": "张医生", "phar_name": "李药师",
			"phar_prac_cert_no": "YS4201", "hi_feesetl_type": "1", "setl_id": "S88120", "mdtrt_sn": "V2026010500017", "psn_no": "4201060012345678", "manu_lotnum": "251021",
			"manu_date": "2025-10-24", "expy_end": "2027-09-30", "trdn_flag": "0", "finl_trns_pric": "12.500000", "rtal_docno": "R20260105-17", "sel_retn_cnt": "1.0000",
			"sel_retn_time": "2026-01-05 10:11:12", "sel_retn_opter_name": "王五", "mdtrt_setl_type": "1", "drugtracinfo": fmt.Sprintf("8385793%013d", n),
		})
	}
	body := plain.message("3505", first, rows)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if call, err := nhsa.Translate("3505A", body, nil, received); err != nil || len(call.Events()) != len(rows) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "rows/s")
}

// What stands around the rows goes into each of them: that must not make a small
// message a large one.
func TestASmallMessageStaysSmall(t *testing.T) {
	const megabyte, lines = 1 << 20, 5000
	long := strings.Repeat("x", megabyte)
	var list strings.Builder
	for i := range lines {
		fmt.Fprintf(&list, `,{"feedetl_sn":"%d","drug_trac_codg":"8%019d"}`, i, i)
	}
	codes := list.String()[1:]
	fifty := strings.Join(strings.SplitAfterN(codes, "}", 51)[:50], "")
	sameLine := strings.ReplaceAll(codes, `"feedetl_sn":"`, `"feedetl_sn":"1","trdn_flag":"`)
	rows := strings.Repeat(`{},`, lines-1) + "{}"
	for _, c := range []struct{ name, infno, envelope, input string }{
		{"a long word in the envelope", "3505", `"dev_no":"` + long + `"`, `"selinfo":[` + rows + `]`},
		{"where a person is insured", "3505", `"insuplc_admdvs":"` + long + `"`, `"selinfo":[` + rows + `]`},
		{"what an institution is", "3505", `"fixmedins_type":"` + long + `"`, `"selinfo":[` + rows + `]`},
		{"a long word beside codes", "2207", `"msgid":"1"`, `"data":{"med_list_codg":"` + long + `","drug_trac_info":[` + codes + `]}`},
		{"a long word in a bill", "2207", `"msgid":"1"`, `"data":{"feedetail":[{"feedetl_sn":"1","med_list_codg":"` + long + `"}],"drug_trac_info":[` + sameLine + `]}`},
		{"a long line of a bill", "2207", `"msgid":"1"`, `"data":{"feedetail":[{"feedetl_sn":"1","memo":"` + long + `"}],"drug_trac_info":[` + sameLine + `]}`},
		{"a bill beside many settlements", "2207", `"msgid":"1"`, `"data":[` + rows + `],"feedetail":[` + codes + `]`},
		{"many settlements with a bill each", "2207", `"msgid":"1"`, `"data":[` + strings.Repeat(`{"feedetail":[`+fifty+`]},`, 999) + `{}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := fmt.Appendf(nil, `{"infno":%q,"fixmedins_code":"H42010600003","fixmedins_admdvs":"420106","inf_time":"2026-01-05 10:11:12",%s,"input":{%s}}`, c.infno, c.envelope, c.input)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			call, err := nhsa.Translate("", body, nil, received)
			answer := call.Refuse("", received)
			if err == nil {
				answer = call.Answer(received)
			}
			runtime.ReadMemStats(&after)
			const most = 300 << 20 // bytes, of which most is garbage by now
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("a message of %d bytes took %d MiB, want at most %d", len(body), got>>20, most>>20)
			}
			if len(answer) > 4*megabyte {
				t.Errorf("a message of %d bytes has an answer of %d", len(body), len(answer))
			}
			if len(call.Rows) > nhsa.MaxRows+1 {
				t.Errorf("got %d rows, want at most %d", len(call.Rows), nhsa.MaxRows)
			}
		})
	}
}
