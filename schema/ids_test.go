package schema_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// ids are event ids as senders make them, and such as are nearly a UUID. packed:
// stored as 17 bytes.
var ids = []struct {
	name, id string
	packed   bool
}{
	{"a UUID", "0198c2a4-7f3e-4b1a-9c55-0123456789ab", true},
	{"a UUID of zeros", "00000000-0000-0000-0000-000000000000", true},
	{"a UUID that ends with zeros", "0198c2a4-7f3e-7b1a-9c55-012345670000", true},
	{"a UUID that begins with zeros", "00000000-7f3e-7b1a-9c55-012345678901", true},
	{"a UUID of no version", "ffffffff-ffff-ffff-ffff-ffffffffffff", true},
	{"an upper-case UUID", "0198C2A4-7F3E-4B1A-9C55-0123456789AB", false},
	{"a UUID with one upper-case digit", "0198c2a4-7f3e-4b1a-9c55-0123456789aB", false},
	{"a UUID in braces", "{0198c2a4-7f3e-4b1a-9c55-0123456789ab}", false},
	{"a UUID without hyphens", "0198c2a47f3e4b1a9c550123456789ab", false},
	{"a UUID with more behind it", "0198c2a4-7f3e-4b1a-9c55-0123456789ab-1", false},
	{"a UUID with a blank for its last digit", "0198c2a4-7f3e-4b1a-9c55-0123456789a ", false},
	{"36 characters that are no digits", "0198c2a4-7f3e-4b1a-9c55-0123456789ag", false},
	{"36 characters with a hyphen too many", "0198c2a4-7f3e-4b1a-9c55-01234567-9ab", false},
	{"36 characters with hyphens elsewhere", "0198c2a47-f3e-4b1a-9c55-0123456789ab", false},
	{"36 digits", strings.Repeat("7", 36), false},
	{"36 hyphens", strings.Repeat("-", 36), false},
	{"16 characters", "0123456789abcdef", false},
	{"17 characters", "0123456789abcdefg", false},
	{"a zero", "0", false},
	{"what reads as a zero byte", `\0`, false},
	{"a GS1 code", "]d20106924561884074172812312110SN1", false},
	{"a receipt and its line", "R20260601-17", false},
	{"of the insurance", "3505.B20260105001.q3kaaaaaaaaaaaaaaaaaaaaaaa", false},
	{"64 characters", strings.Repeat("x", 64), false},
}

// TestIDsReadBackAsTheyWereSent stores each id as JSON and as Arrow.
func TestIDsReadBackAsTheyWereSent(t *testing.T) {
	conn := newDatabase(t, "http")
	var all []string
	for _, c := range ids {
		all = append(all, c.id)
	}
	storeIDs(t, conn, all)
	checkIDs(t, conn, all)
	for _, c := range ids {
		want := c.id
		if c.packed {
			want = "\x00" + string(uuidBytes(t, c.id))
		}
		if n := one(t, conn, "SELECT toString(count()) FROM scan_rows WHERE event_id = unhex(?)", fmt.Sprintf("%x", want)); n != "4" {
			t.Errorf("%s, %s: %s rows are stored as %q, want two codes by two ways", c.name, c.id, n, want)
		}
	}
	if n := one(t, conn, "SELECT toString(count()) FROM id_conflicts"); n != "0" {
		t.Errorf("%s ids are in conflict, want none", n)
	}
	// The same id with other content is told by its text.
	other := ids[0].id
	send(t, conn, idEvent(other, `"price":7`))
	if got := query(t, conn, "SELECT event_id, toString(contents) FROM id_conflicts"); len(got) != 1 || !slices.Equal(got[0], []string{other, "2"}) {
		t.Errorf("conflicts %q, want %s with two contents", got, other)
	}
}

// The law: any id that is no refusal reads back as it was sent.
func TestAnyIDReadsBackAsItWasSent(t *testing.T) {
	conn := newDatabase(t, "native")
	hex := rapid.SampledFrom([]byte("0123456789abcdefABCDEFg-{ "))
	draw := rapid.OneOf(
		rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
		rapid.StringMatching(`[!-~][ -~]{0,63}`),
		rapid.Custom(func(t *rapid.T) string {
			id := []byte(rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`).Draw(t, "uuid"))
			id[rapid.IntRange(0, len(id)-1).Draw(t, "at")] = hex.Draw(t, "digit")
			return string(id)
		}))
	all := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		for _, id := range rapid.SliceOfN(draw, 1, 20).Draw(t, "ids") {
			if strings.TrimSpace(id) != "" {
				all[id] = true
			}
		}
	})
	var list []string
	for id := range all {
		list = append(list, id)
	}
	storeIDs(t, conn, list)
	checkIDs(t, conn, list)
}

// No id begins with the byte that stands before a UUID in the table.
func TestAnIDThatBeginsWithAZeroByteIsRefused(t *testing.T) {
	for _, id := range []string{"\x00", "\x00E1", "\x000123456789abcdef", "\x01E1"} {
		var s schema.Scan
		text, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		event := strings.Replace(idEvent("E1", `"pay":"self"`), `"E1"`, string(text), 1)
		if why := s.DecodeJSON([]byte(event)); why == nil || why.Field != "event_id" {
			t.Errorf("%q as JSON: got %v, want a refusal of event_id", id, why)
		}
		if why := s.DecodeJSON([]byte(strings.Replace(event, string(text), `"`+id+`"`, 1))); why == nil {
			t.Errorf("%q as it is in JSON: it was taken", id)
		}
		var decoder schema.Decoder
		for _, why := range decoder.Events([]byte(event+"\n"), "application/x-ndjson") {
			if why == nil || why.Field != "event_id" {
				t.Errorf("%q as a line: got %v, want a refusal of event_id", id, why)
			}
		}
		refused := 0
		block := newBlock(t)
		addArrow(t, block, []schema.Scan{{EventID: id, Kind: schema.StockTake, Time: received, Org: "A", Region: "420106"}}, func(why schema.Refusal) {
			if refused++; why.Field != "event_id" {
				t.Errorf("%q as Arrow: got %v, want a refusal of event_id", id, why)
			}
		})
		if refused != 1 || block.Rows() != 0 {
			t.Errorf("%q as Arrow: %d refused, %d rows, want one and none", id, refused, block.Rows())
		}
	}
}

func TestTheTableKeepsSequencesRoughly(t *testing.T) {
	conn := newDatabase(t, "native")
	block := newBlock(t)
	seqs := []uint64{0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 1 << 40}
	for _, seq := range seqs {
		var s schema.Scan
		if why := s.DecodeJSON([]byte(idEvent(fmt.Sprint(seq), `"pay":"self"`))); why != nil {
			t.Fatal(why)
		}
		block.Add(&s, seq, received)
	}
	if err := block.Send(t.Context(), conn, ""); err != nil {
		t.Fatal(err)
	}
	want := []string{"0", "0", "0", "65536", "65536", "65536", "131072", "1099511627776"}
	for i, seq := range seqs {
		if got := one(t, conn, "SELECT DISTINCT toString(seq) FROM scans WHERE event_id = ?", fmt.Sprint(seq)); got != want[i] || fmt.Sprint(schema.StoredSeq(seq)) != want[i] {
			t.Errorf("sequence %d: stored %s, StoredSeq %d, want %s", seq, got, schema.StoredSeq(seq), want[i])
		}
	}
}

// TestATableOfTextIsCopiedWhereverItWasBrokenOff brings a table of the layout
// before to the present one, and breaks the migration off after each statement.
func TestATableOfTextIsCopiedWhereverItWasBrokenOff(t *testing.T) {
	const name = "0017_fewer_bytes.sql"
	ctx := t.Context()
	dsn := enginetest.Database(t, "http")
	if err := schema.ApplyBefore(ctx, dsn, name); err != nil {
		t.Fatal(err)
	}
	conn := enginetest.Open(t, dsn)
	var all []string
	for _, c := range ids {
		all = append(all, c.id)
	}
	storeIDs(t, conn, all)
	asText(t, conn, all)
	before := query(t, conn, idContent)

	migrations, err := schema.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(migrations, func(m schema.Migration) bool { return m.Name == name })
	if at < 0 {
		t.Fatalf("there is no migration %s", name)
	}
	for upTo := range len(migrations[at].Statements) + 1 {
		// What it finds is a table of text, rows of which nobody knows yet.
		id := fmt.Sprintf("0198c2a4-7f3e-4b1a-9c55-%012x", upTo)
		storeIDs(t, conn, []string{id})
		asText(t, conn, []string{id})
		all = append(all, id)
		for _, statement := range migrations[at].Statements[:upTo] {
			if err := conn.Exec(ctx, statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		if n := one(t, conn, "SELECT toString(uniqExact(event_id)) FROM scans"); n != fmt.Sprint(len(all)) {
			t.Errorf("broken off after %d statements: %s ids are seen, want %d", upTo, n, len(all))
		}
		if err := conn.Exec(ctx, "ALTER TABLE migrations DELETE WHERE name = ? SETTINGS mutations_sync = 1", name); err != nil {
			t.Fatal(err)
		}
		want := []string{name}
		if upTo == 0 { // those behind it have not run, either
			for _, m := range migrations[at+1:] {
				want = append(want, m.Name)
			}
		}
		if ran, err := schema.Apply(ctx, dsn); err != nil || !slices.Equal(ran, want) {
			t.Fatalf("broken off after %d statements: ran %v, want %v, error %v", upTo, ran, want, err)
		}
		checkIDs(t, conn, all)
		if n := one(t, conn, "SELECT toString(countIf(seq % 65536 != 0) + countIf(length(event_id) = 36 AND event_id LIKE '0198c2a4-7f3e-4b1a-9c55-0000%')) FROM scan_rows"); n != "0" {
			t.Errorf("broken off after %d statements: %s rows are in the layout before", upTo, n)
		}
		if n := one(t, conn, "SELECT toString(count()) FROM system.tables WHERE database = currentDatabase() AND name LIKE 'scan_rows_%'"); n != "0" {
			t.Errorf("broken off after %d statements: %s copies are left", upTo, n)
		}
	}
	if after := query(t, conn, idContent); !slices.EqualFunc(after, before, slices.Equal) {
		t.Errorf("after the migration\n got %q\nwant %q", after, before)
	}
	// What is uploaded again is what was uploaded before.
	storeIDs(t, conn, all)
	checkIDs(t, conn, all)
	if n := one(t, conn, "SELECT toString(count()) FROM id_conflicts"); n != "0" {
		t.Errorf("%s ids are in conflict, want none", n)
	}
}

// Rows that come in beside the copy are not left behind.
func TestACopyThatMissesRowsTakesNoPlace(t *testing.T) {
	const name = "0017_fewer_bytes.sql"
	ctx := t.Context()
	dsn := enginetest.Database(t, "native")
	if err := schema.ApplyBefore(ctx, dsn, name); err != nil {
		t.Fatal(err)
	}
	conn := enginetest.Open(t, dsn)
	storeIDs(t, conn, []string{"early"})
	migrations, err := schema.Migrations()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(migrations, func(m schema.Migration) bool { return m.Name == name })
	var failed error
	for _, statement := range migrations[at].Statements {
		if failed = conn.Exec(ctx, statement); failed != nil {
			break
		}
		if strings.HasPrefix(statement, "INSERT INTO scan_rows_next") {
			storeIDs(t, conn, []string{"late"})
		}
	}
	if failed == nil || !strings.Contains(failed.Error(), "stop the ingesters") {
		t.Fatalf("rows came in beside the copy: got error %v, want one that asks to stop the ingesters", failed)
	}
	if _, err := schema.Apply(ctx, dsn); err != nil {
		t.Fatal(err)
	}
	checkIDs(t, conn, []string{"early", "late"})
}

const idContent = `SELECT event_id, toString(cityHash64(code, digest, time, sent, received, ifNull(price, 0), ifNull(quantity, 0), kind))
	FROM scans
	WHERE event_id NOT LIKE '0198c2a4-7f3e-4b1a-9c55-0000%'
	ORDER BY event_id, code`

func idEvent(id, more string) string {
	text, err := json.Marshal(id)
	if err != nil {
		panic(err) // of a string
	}
	return `{"event_id":` + string(text) + `,"kind":"sale","time":"2026-03-01T10:00:00+08:00","org":"A","region":"420106","codes":["80000000000000000012","80000000000000000013"],"settlement":"S1",` + more + `}`
}

// storeIDs stores an event of each id twice, as JSON and as Arrow.
func storeIDs(t *testing.T, conn *schema.Conn, ids []string) {
	t.Helper()
	block := newBlock(t)
	var scans []schema.Scan
	for i, id := range ids {
		var s schema.Scan
		if why := s.DecodeJSON([]byte(idEvent(id, `"pay":"self"`))); why != nil {
			t.Fatalf("%q: %v", id, why)
		}
		block.Add(&s, uint64(100_000*i), received)
		scans = append(scans, s)
	}
	addArrow(t, block, scans, func(why schema.Refusal) { t.Error(why) })
	if err := block.Send(context.Background(), conn, ""); err != nil {
		t.Fatal(err)
	}
}

func addArrow(t *testing.T, block *schema.Block, scans []schema.Scan, refuse func(schema.Refusal)) {
	t.Helper()
	var message bytes.Buffer
	if err := schema.WriteArrow(&message, scans, schema.ArrowOptions{}); err != nil {
		t.Fatal(err)
	}
	m, why := schema.OpenArrow(message.Bytes())
	if why != nil {
		t.Fatal(why)
	}
	m.Add(block, 0, m.Rows(), 100_001, received.Add(time.Hour), func(_ int, _ []byte, _ *schema.Scan, why schema.Refusal) { refuse(why) })
}

// asText turns what is stored of ids into what a program of the layout before
// would have stored.
func asText(t *testing.T, conn *schema.Conn, ids []string) {
	t.Helper()
	for _, id := range ids {
		packed := "unhex('" + fmt.Sprintf("%x", "\x00"+string(uuidBytes(t, id))) + "')"
		for _, statement := range []string{
			"INSERT INTO scan_rows SELECT * REPLACE ('" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(id) + "' AS event_id, seq + 12345 AS seq) FROM scan_rows WHERE scan_rows.event_id = " + packed,
			"DELETE FROM scan_rows WHERE event_id = " + packed,
		} {
			if len(uuidBytes(t, id)) == 0 {
				continue // text anyway
			}
			if err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		if n := one(t, conn, "SELECT toString(count()) FROM scan_rows WHERE event_id = ? AND seq % 65536 != 0", id); len(uuidBytes(t, id)) > 0 && n == "0" {
			t.Fatalf("%s: %s rows are text, want some", id, n)
		}
	}
}

// uuidBytes are the bytes of a UUID in its usual form, none of what is written otherwise.
func uuidBytes(t *testing.T, id string) []byte {
	t.Helper()
	if len(id) != 36 || strings.ToLower(id) != id || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return nil
	}
	var b []byte
	if n, err := fmt.Sscanf(strings.ReplaceAll(id, "-", ""), "%x", &b); n != 1 || err != nil || len(b) != 16 {
		return nil
	}
	return b
}

// checkIDs wants the two codes of each id, once, and nothing else.
func checkIDs(t *testing.T, conn *schema.Conn, ids []string) {
	t.Helper()
	got := map[string]string{}
	for _, row := range query(t, conn, "SELECT event_id, toString(count()) FROM scans GROUP BY event_id") {
		got[row[0]] = row[1]
	}
	for _, id := range ids {
		if got[id] != "2" {
			t.Errorf("%q: %q rows are seen, want 2", id, got[id])
		}
		delete(got, id)
	}
	if len(got) > 0 {
		t.Errorf("ids that nobody sent: %q", got)
	}
}
