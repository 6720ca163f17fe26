package faults_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/ingest"
	"yaosu/schema"
)

// doubles says whether rows may be stored twice, though seen once.
type doubles int

const (
	noDoubles doubles = iota
	mayDouble         // by what the fault does to the engine or the ledger
)

// audit counts what was published against what is stored: what was acknowledged
// is in the view scans once, with its content, or in the rejects with its bytes;
// what was not is there once at most.
func (w *world) audit(allow doubles) {
	w.t.Helper()
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	w.compare("scans", w.book.rows, "SELECT xxHash64("+rowText+") FROM scans")
	w.compare("voids", w.book.voids, "SELECT xxHash64("+voidText+") FROM voids FINAL")
	w.auditVault()
	w.auditRejects()

	stored := w.rows()
	double := w.double()
	if restarts := w.engineRestarts(); restarts > 0 {
		w.t.Logf("the engine was started again %d times", restarts)
		allow = mayDouble
	}
	w.t.Logf("%d events in %d messages acknowledged, %d events sent: %d rows seen, %d stored, %d of them twice; %d rejects",
		w.book.acked, w.book.messages, w.book.sent, len(w.book.rows), stored, double, w.count("SELECT count() FROM rejects"))
	if double != 0 && allow == noDoubles {
		w.t.Errorf("%d rows are stored twice, want none", double)
	}
}

// double is how many rows are stored oftener than there are messages with their
// event. The table does not tell which message a row came with, but the second in
// which it was received.
func (w *world) double() (double int64) {
	w.t.Helper()
	type key struct {
		org, id  string
		received int64
	}
	twice := map[key][]uint64{} // how often rows are stored, of events with rows that are there twice
	rows, err := w.conn.Query(context.WithoutCancel(w.t.Context()), `SELECT
			org,
			event_id,
			second,
			groupArray(times)
		FROM
		(
			SELECT
				toString(org) AS org,
				event_id,
				toUnixTimestamp64Second(time) - (toInt64(bitAnd(promptness + 8589934592, 17179869183)) - 8589934592) AS second,
				count() AS times
			FROM scan_rows
			GROUP BY org, event_id, digest, code, code_text, second
			HAVING times > 1
		)
		GROUP BY org, event_id, second`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var k key
		var times []uint64
		if err := rows.Scan(&k.org, &k.id, &k.received, &times); err != nil {
			w.t.Fatal(err)
		}
		twice[k] = times
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	if len(twice) == 0 {
		return 0
	}
	messages := map[key]uint64{}
	for _, msg := range w.readAll(schema.StreamScans) {
		about, err := msg.Metadata()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, k := range eventsOf(w.t, msg) {
			k := key{k[0], k[1], about.Timestamp.Unix()}
			if twice[k] != nil {
				messages[k]++
			}
		}
	}
	for k, times := range twice {
		for _, n := range times {
			double += int64(n - min(n, max(1, messages[k])))
		}
	}
	return double
}

// eventsOf names the events of a message, as org and id.
func eventsOf(t testing.TB, msg jetstream.Msg) (events [][2]string) {
	t.Helper()
	var decoder schema.Decoder
	add := func(s *schema.Scan) {
		events = append(events, [2]string{strings.Clone(s.Org), strings.Clone(s.EventID)})
	}
	contentType := msg.Headers().Get(schema.HeaderContentType)
	if !schema.IsArrow(msg.Data(), contentType) {
		for event, why := range decoder.Events(msg.Data(), contentType) {
			if why == nil {
				add(event.Scan)
			}
		}
		return events
	}
	arrow, why := schema.OpenArrow(msg.Data())
	if why != nil {
		t.Fatal(why)
	}
	for row := range arrow.Rows() {
		if s, why := decoder.Decode(arrow.JSON(row)); why == nil {
			add(s)
		}
	}
	return events
}

// compare runs a query of hashes and wants each that is acknowledged once.
func (w *world) compare(what string, want map[uint64]entry, query string) {
	w.t.Helper()
	seen := make(map[uint64]int, len(want))
	rows, err := w.conn.Query(context.WithoutCancel(w.t.Context()), query)
	if err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var hash uint64
		if err := rows.Scan(&hash); err != nil {
			w.t.Fatal(err)
		}
		seen[hash]++
	}
	if err := rows.Err(); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	var lost, twice, foreign []int
	for hash, e := range want {
		switch n := seen[hash]; {
		case n == 0 && e.acked:
			lost = append(lost, int(e.n))
		case n > 1:
			twice = append(twice, int(e.n))
		}
	}
	for hash := range seen {
		if _, known := want[hash]; !known {
			foreign = append(foreign, len(foreign))
		}
	}
	if len(lost)+len(twice)+len(foreign) > 0 {
		slices.Sort(lost)
		slices.Sort(twice)
		w.t.Errorf("%s: %d rows are lost, %d are there twice, %d are no event's; lost: events %v; twice: events %v",
			what, len(lost), len(twice), len(foreign), lost[:min(len(lost), 20)], twice[:min(len(twice), 20)])
	}
}

// auditVault wants every person of an acknowledged event to be found.
func (w *world) auditVault() {
	w.t.Helper()
	rows, err := w.conn.Query(context.WithoutCancel(w.t.Context()), "SELECT person, number FROM person_vault FINAL")
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	found := map[string]bool{}
	for rows.Next() {
		var person, number string
		if err := rows.Scan(&person, &number); err != nil {
			w.t.Fatal(err)
		}
		if w.key.Pseudonym(number) != person {
			w.t.Errorf("the vault has %s under a pseudonym that is not its own", number)
		}
		found[number] = true
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	missing := 0
	for number := range w.book.persons {
		if !found[number] {
			missing++
		}
	}
	if missing > 0 {
		w.t.Errorf("%d of %d persons are missing in the vault", missing, len(w.book.persons))
	}
	if n := w.count(strangers); n != 0 {
		w.t.Errorf("%d persons in the table are missing in the vault", n)
	}
}

// strangers counts persons that can be seen and not be resolved.
const strangers = "SELECT uniqExact(person) FROM scan_rows WHERE person != '' AND person NOT IN (SELECT person FROM person_vault)"

// place names one event of the stream.
type place struct {
	seq      uint64
	position int
}

// reject is an event that was refused. A stream that was put back from an older
// copy has other events at the same places.
type reject struct {
	place
	text string // its bytes, persons replaced
}

// auditRejects wants each refused event in the table and in the stream REJECTS,
// under the same place, with its bytes.
func (w *world) auditRejects() {
	w.t.Helper()
	inTable := map[reject]bool{}
	rows, err := w.conn.Query(context.WithoutCancel(w.t.Context()), "SELECT seq, position, bytes FROM rejects")
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq uint64
		var position uint32
		var text string
		if err := rows.Scan(&seq, &position, &text); err != nil {
			w.t.Fatal(err)
		}
		at := reject{place{seq, int(position)}, text}
		if inTable[at] {
			w.t.Errorf("the reject of message %d, position %d is in the view twice", seq, position)
		}
		inTable[at] = true
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}

	inStream := map[reject]bool{}
	counted := map[uint64]int{}
	for _, msg := range w.readAll(schema.StreamRejects) {
		at := reject{w.placeOf(msg), string(schema.ScrubPerson(msg.Data(), w.key.Pseudonym))}
		if inStream[at] {
			w.t.Errorf("the reject of message %d, position %d is in the stream twice", at.seq, at.position)
			continue
		}
		inStream[at] = true
		if !inTable[at] {
			w.t.Errorf("the reject of message %d, position %d is in the stream and not in the table: %q", at.seq, at.position, at.text)
		}
		counted[xxhash.Sum64(msg.Data())]++
	}
	if len(inTable) != len(inStream) {
		w.t.Errorf("%d rejects are in the table and %d in the stream", len(inTable), len(inStream))
	}
	var wrong []string
	for hash, r := range w.book.rejects {
		if n := counted[hash]; n < r.acked || n > r.sent {
			wrong = append(wrong, fmt.Sprintf("%s: refused %d times, want %d as acknowledged, and at most %d", r.raw, n, r.acked, r.sent))
		}
		delete(counted, hash)
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		w.t.Errorf("%d bad events are not refused as often as they were sent, such as %s", len(wrong), wrong[0])
	}
	if len(counted) > 0 {
		w.t.Errorf("%d good events are among the rejects", len(counted))
	}
}

func (w *world) placeOf(msg jetstream.Msg) place {
	w.t.Helper()
	seq, err := strconv.ParseUint(msg.Headers().Get(ingest.HeaderScanSequence), 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	position, err := strconv.Atoi(msg.Headers().Get(ingest.HeaderScanPosition))
	if err != nil {
		w.t.Fatal(err)
	}
	return place{seq, position}
}

// readAll returns all messages of a stream.
func (w *world) readAll(name string) []jetstream.Msg {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), patience)
	defer cancel()
	stream, err := w.js.Stream(ctx, name)
	if err != nil {
		w.t.Fatal(err)
	}
	want := int(stream.CachedInfo().State.Msgs)
	if want == 0 {
		return nil
	}
	consumer, err := w.js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	all := make([]jetstream.Msg, 0, want)
	for len(all) < want {
		fetched, err := consumer.Fetch(min(5000, want-len(all)), jetstream.FetchMaxWait(10*time.Second))
		if err != nil {
			w.t.Fatalf("read %s: %v", name, err)
		}
		before := len(all)
		for msg := range fetched.Messages() {
			all = append(all, msg)
		}
		if len(all) == before {
			w.t.Fatalf("read %s: %v", name, fmt.Errorf("%d of %d messages, then nothing: %w", before, want, fetched.Error()))
		}
	}
	return all
}
