package schema_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"yaosu/schema"
)

var received = time.Date(2026, 3, 2, 12, 0, 0, 0, schema.Shanghai)

func testKey(t *testing.T) *schema.PersonKey {
	t.Helper()
	key, err := schema.NewPersonKey([]byte("a key for tests, thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// send inserts events given as JSON, the first received when received says and
// each other a minute later.
func send(t *testing.T, conn *schema.Conn, events ...string) {
	t.Helper()
	block := schema.NewBlock(schema.NewPeople(testKey(t)), schema.NewClassifier(nil))
	for i, event := range events {
		var s schema.Scan
		if refusal := s.DecodeJSON([]byte(event)); refusal != nil {
			t.Fatalf("%s: %v", event, refusal)
		}
		block.Add(&s, uint64(i+1), received.Add(time.Duration(i)*time.Minute))
	}
	if err := block.Send(context.Background(), conn, ""); err != nil {
		t.Fatal(err)
	}
}

const fullEvent = `{"event_id":"E1","kind":"sale","time":"2026-03-01T10:11:12.345+08:00","sent":"2026-03-01T10:12:12+08:00",
	"org":"P42010600013","region":"420106","codes":["85970625070608213291","]d20106924561884074172812312110SN1\u001d10L9"],
	"device":"POS1","drug":"XA11BC936215AAAAAAAAAAA","lot":"L1","made":"2025-01-02","expires":"9999-12-31","split":true,
	"quantity":3,"price":12.345678,"days":7.5,"pay":"insured","settlement":"S1","fund_pay":20.5,"visit":"V1",
	"person":"420106198001011234","person_region":"420100","credential":"ecard","setting":"pharmacy","doctor":"张三",
	"doctor_id":"D1","pharmacist":"李四","pharmacist_id":"PH1","operator":"王五","rx":"R1","doc":"T1","batch_no":"B1",
	"supplier":"某公司","reverses":"E0"}`

func TestAnEventIsInTheTableAsItWasSent(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			conn := newDatabase(t, transport)
			send(t, conn, fullEvent)
			got := query(t, conn, `SELECT code_key, toString(scheme), product, event_id, toString(kind), toString(time), toString(sent), org, region, device,
				operator, drug, lot, ifNull(toString(made), ''), ifNull(toString(expires), ''), toString(split), toString(quantity), toString(price), toString(days), toString(pay),
				settlement, toString(fund_pay), visit, person_region, toString(credential), toString(setting), doctor, doctor_id, pharmacist,
				pharmacist_id, rx, doc, batch_no, supplier, reverses, toString(flags), toString(received), toString(codes), toString(share)
				FROM scans ORDER BY scheme`)
			rest := []string{
				"E1", "sale", "2026-03-01 10:11:12.345", "2026-03-01 10:12:12.000", "P42010600013", "420106", "POS1",
				"王五", "XA11BC936215AAAAAAAAAAA", "L1", "2025-01-02", "2299-12-30", "true", "3", "12.345678", "7.5", "insured",
				"S1", "20.5", "V1", "420100", "ecard", "pharmacy", "张三", "D1", "李四",
				"PH1", "R1", "T1", "B1", "某公司", "E0", "[]", "2026-03-02 12:00:00.000", "2", "1.5",
			}
			trimmed := slices.Clone(rest)
			trimmed[32] = "['trimmed']"
			want := [][]string{
				append([]string{"85970625070608213291", "cn20", "8597062"}, rest...),
				append([]string{"01069245618840742110SN1", "gs1", "06924561884074"}, trimmed...),
			}
			for i := range want {
				if i >= len(got) || !slices.Equal(got[i], want[i]) {
					t.Errorf("row %d\n got %q\nwant %q", i, got[min(i, len(got)-1)], want[i])
				}
			}
		})
	}
}

// A retry is sent later than what it repeats, and is the same event; a row
// uploaded again after a void is the same event too, and stands.
func TestWhenAnEventWasSentMakesNoOtherOfIt(t *testing.T) {
	sale := func(sent string) string {
		return `{"event_id":"E1","kind":"sale","time":"2026-03-01T10:00:00+08:00","sent":"2026-03-01T` + sent + `+08:00","org":"A","region":"420106","codes":["85970625070608213291"],"pay":"insured","batch_no":"B1"}`
	}
	const (
		void  = `{"event_id":"V1","kind":"void","time":"2026-03-01T11:00:00+08:00","org":"A","region":"420106","batch_no":"B1"}`
		early = `{"event_id":"V1","kind":"void","time":"2026-03-01T09:56:00+08:00","org":"A","region":"420106","batch_no":"B1"}`
	)
	for _, c := range []struct {
		name   string
		events []string
		sent   string
		sales  string
	}{
		{"sent twice", []string{sale("10:00:05"), sale("10:30:00")}, "2026-03-01 10:30:00.000", "1"},
		{"the later one comes in first", []string{sale("10:30:00"), sale("10:00:05")}, "2026-03-01 10:30:00.000", "1"},
		{"voided after both", []string{sale("10:00:05"), void, sale("10:30:00")}, "2026-03-01 10:30:00.000", "0"},
		{"voided and uploaded again", []string{sale("10:00:05"), void, sale("11:30:00")}, "2026-03-01 11:30:00.000", "1"},
		{"voided and uploaded again by a till whose clock is ahead", []string{sale("09:55:00"), early, sale("09:57:00")}, "2026-03-01 09:57:00.000", "1"},
		{"the same, in no order", []string{sale("09:57:00"), early, sale("09:55:00")}, "2026-03-01 09:57:00.000", "1"},
		{"the same, voided after both", []string{sale("09:55:50"), early, sale("09:55:00")}, "2026-03-01 09:55:50.000", "0"},
		{"voided and uploaded again, in no order", []string{sale("11:30:00"), sale("10:00:05"), void}, "2026-03-01 11:30:00.000", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := newDatabase(t, "native")
			for _, event := range c.events {
				send(t, conn, event)
			}
			rows := query(t, conn, "SELECT toString(sent), toString(received) FROM scans WHERE kind = 'sale'")
			if len(rows) != 1 || rows[0][0] != c.sent || rows[0][1] != "2026-03-02 12:00:00.000" {
				t.Errorf("got %q, want one sale, sent %s", rows, c.sent)
			}
			if got := one(t, conn, "SELECT toString(count()) FROM id_conflicts"); got != "0" {
				t.Errorf("%s ids are in conflict, want none", got)
			}
			if got := one(t, conn, "SELECT toString(count()) FROM effective_sales"); got != c.sales {
				t.Errorf("%s effective sales, want %s", got, c.sales)
			}
		})
	}
}

func TestPersonsAreInTheVaultAndNowhereElse(t *testing.T) {
	conn := newDatabase(t, "native")
	send(t, conn, fullEvent)
	pseudonym := testKey(t).Pseudonym("420106198001011234")
	if got := one(t, conn, "SELECT DISTINCT person FROM scans"); got != pseudonym || len(got) != 16 {
		t.Errorf("scans.person is %q, want the pseudonym %q", got, pseudonym)
	}
	if got := one(t, conn, "SELECT number FROM person_vault WHERE person = ?", pseudonym); got != "420106198001011234" {
		t.Errorf("the vault says %q", got)
	}
}

func TestPersonKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "person.key")
	first, err := schema.LoadOrCreatePersonKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := schema.LoadOrCreatePersonKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Pseudonym("1") != again.Pseudonym("1") || first.Pseudonym("1") == first.Pseudonym("2") || first.Pseudonym("") != "" {
		t.Error("a key file read again must give the same pseudonyms, other persons others, nobody none")
	}
	if _, err := schema.LoadPersonKey(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing key file must be an error")
	}
}

func TestAnEventIsSeenOnceHoweverOftenItIsSent(t *testing.T) {
	conn := newDatabase(t, "native")
	sale := `{"event_id":"E1","kind":"sale","time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106","codes":["80000000000000000012","80000000000000000013"],"settlement":"S1"}`
	same := `{"org":"A","region":"420106","event_id":"E1","kind":"sale","time":"2026-03-01T02:00:00Z","sent":"2026-03-01T10:00:00+08:00","codes":["80000000000000000013","80000000000000000012"],"settlement":"S1","pay":"insured","quantity":2.0,"unknown":[1]}`
	other := `{"event_id":"E1","kind":"sale","time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106","codes":["80000000000000000012"],"settlement":"S2"}`
	elsewhere := `{"event_id":"E1","kind":"sale","time":"2026-03-01T10:00:00+08:00","org":"B","region":"420106","codes":["80000000000000000012"],"settlement":"S1"}`
	send(t, conn, sale, same)
	send(t, conn, same, sale)
	if got := one(t, conn, "SELECT toString(count()) FROM scans"); got != "2" {
		t.Errorf("the same event four times, with defaults written out and codes in another order: %s rows, want 2", got)
	}
	if got := one(t, conn, "SELECT toString(max(received)) FROM scans"); got != "2026-03-02 12:00:00.000" {
		t.Errorf("received is %s, want the first receipt", got)
	}
	send(t, conn, other, elsewhere)
	conflicts := query(t, conn, "SELECT org, event_id, toString(contents) FROM id_conflicts")
	if len(conflicts) != 1 || !slices.Equal(conflicts[0], []string{"A", "E1", "2"}) {
		t.Errorf("conflicts %v, want A's E1 with two contents and not B's", conflicts)
	}
}

func TestWrongClocksAreFlaggedByTheirFirstReceipt(t *testing.T) {
	conn := newDatabase(t, "native")
	event := func(id string, at time.Time) string {
		return fmt.Sprintf(`{"event_id":%q,"kind":"sale","time":%q,"org":"A","region":"420106","codes":["80000000000000000012"],"settlement":"S1","person":"p"}`, id, at.Format(time.RFC3339))
	}
	send(t, conn,
		event("just in time", received.Add(10*time.Minute)),
		event("too far ahead", received.Add(12*time.Minute)), // received a minute later than the first
		event("far future", time.Date(3026, 1, 1, 0, 0, 0, 0, time.UTC)),
		event("long ago", time.Date(2014, 12, 31, 23, 59, 59, 0, schema.Shanghai)),
		event("a clock of 1950", time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)),
		event("a clock of 9999", time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)),
		event("year one", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)),
		event("first day", time.Date(2015, 1, 1, 0, 0, 0, 0, schema.Shanghai)),
		event("too far ahead", received.Add(12*time.Minute)), // again, when its time has come
	)
	var got []string
	for _, row := range query(t, conn, "SELECT event_id FROM wrong_clocks ORDER BY event_id") {
		got = append(got, row[0])
	}
	if want := []string{"a clock of 1950", "a clock of 9999", "far future", "long ago", "too far ahead", "year one"}; !slices.Equal(got, want) {
		t.Errorf("wrong clocks %q, want %q", got, want)
	}
	for _, row := range query(t, conn, "SELECT event_id, toString(toYear(time)), toString(toDate(received)) FROM scans") {
		if row[2] != "2026-03-02" || row[0] == "a clock of 9999" && row[1] != "2262" || row[0] == "a clock of 1950" && row[1] != "1950" {
			t.Errorf("%s: stored in the year %s, received on %s", row[0], row[1], row[2])
		}
	}
	if n := one(t, conn, "SELECT toString(count()) FROM effective_sales"); n != "1" {
		t.Errorf("%s effective sales, want 1: two good clocks, one settlement and code", n)
	}
}

func TestWhatIsMerelyMissingIsKeptAndFlagged(t *testing.T) {
	conn := newDatabase(t, "native")
	send(t, conn,
		`{"event_id":"insured","kind":"sale","time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106","codes":["80000000000000000012"],"pay":"insured"}`,
		`{"event_id":"self","kind":"sale","time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106","codes":["80000000000000000012"]}`,
		`{"event_id":"void","kind":"void","time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106"}`)
	got := query(t, conn, "SELECT event_id, toString(flags) FROM scans ORDER BY event_id")
	want := [][]string{{"insured", "['no_person','no_settlement']"}, {"self", "[]"}, {"void", "['names_nothing']"}}
	for i := range want {
		if i >= len(got) || !slices.Equal(got[i], want[i]) {
			t.Errorf("got %q, want %q", got, want)
			break
		}
	}
}

func TestTheLargestNumbersCanBeRead(t *testing.T) {
	conn := newDatabase(t, "native")
	send(t, conn, `{"event_id":"E1","kind":"sale","time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106","codes":["80000000000000000012"],"pay":"insured","quantity":999999999999,"price":999999999999.999999}`)
	if got := one(t, conn, "SELECT toString(paid > 9e23) FROM effective_sales"); got != "1" {
		t.Errorf("paid > 9e23 is %s", got)
	}
}

func TestRowsOfOneEvent(t *testing.T) {
	for _, c := range []struct {
		name, codes, extra string
		rows, quantity     string
	}{
		{"a box read twice is one box", `"80000000000000000012","]C180000000000000000012"`, "", "1", "1"},
		{"a placeholder given twice is two boxes", `"无","无"`, "", "1", "2"},
		{"no code", ``, `,"kind":"purchase"`, "1", ""},
		{"a quantity that is given stands", `"80000000000000000012"`, `,"quantity":0.5`, "1", "0.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := newDatabase(t, "native")
			kind := `"kind":"sale",`
			if c.codes == "" {
				kind = ""
			}
			send(t, conn, `{"event_id":"E1",`+kind+`"time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106","codes":[`+c.codes+`]`+c.extra+`}`)
			got := query(t, conn, "SELECT toString(count()), ifNull(toString(any(quantity)), '') FROM scans")[0]
			if !slices.Equal(got, []string{c.rows, c.quantity}) {
				t.Errorf("got rows and quantity %q, want %q", got, []string{c.rows, c.quantity})
			}
		})
	}
}

func TestACodeIsFoundByIndexInEveryForm(t *testing.T) {
	conn := newDatabase(t, "native")
	send(t, conn, fullEvent)
	for _, key := range []string{"85970625070608213291", "01069245618840742110SN1"} {
		if got := one(t, conn, "SELECT toString(count()) FROM scans WHERE code_key = ?", key); got != "1" {
			t.Errorf("code %s: %s rows, want 1", key, got)
		}
	}
	plan := query(t, conn, "EXPLAIN indexes = 1 SELECT * FROM scans WHERE code_key = '85970625070608213291'")
	if !slices.ContainsFunc(plan, func(row []string) bool { return strings.Contains(row[0], "by_code_key") }) {
		t.Errorf("the plan does not use the index by_code_key: %v", plan)
	}
}

// A hospital sells one drug under a placeholder for a year, and takes a tenth
// back, half of that by name. What lambdas take along must not grow with both.
func TestAPlaceholderSoldTwentyThousandTimesIsWorkedOut(t *testing.T) {
	conn := newDatabase(t, "native")
	for _, rows := range []string{
		`concat('E', toString(number)), 'sale', time + toIntervalMinute(number), concat('S', toString(number)), '' FROM numbers(20000)`,
		`concat('R', toString(number)), 'sale_return', time + toIntervalMinute(number * 10 + 5), '', if(number % 2 = 0, concat('E', toString(number * 10)), '') FROM numbers(2000)`,
	} {
		err := conn.Exec(context.Background(), `INSERT INTO scan_rows (code, org, drug, scheme, code_raw, codes, digest, promptness, pay, person, event_id, kind, time, settlement, reverses)
			WITH toDateTime64('2026-01-01 00:00:00', 3, 'Asia/Shanghai') AS time
			SELECT 77, 'A', 'X', 'placeholder', '无码', 1, 1, 1099511627776, 'insured', 'p', `+rows)
		if err != nil {
			t.Fatal(err)
		}
	}
	got := query(t, conn, "SELECT toString(count()), toString(countIf(undone)) FROM sales SETTINGS max_memory_usage = 1500000000")[0]
	if want := []string{"20000", "2000"}; !slices.Equal(got, want) {
		t.Errorf("sales and undone sales are %v, want %v", got, want)
	}
}
