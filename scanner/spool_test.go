package scanner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/scanner"
	"yaosu/schema"
)

func TestAShopWithoutNetworkForTenDays(t *testing.T) {
	const days, sales = 10, 3000
	dir := t.TempDir()
	// Where NATS will be; nobody is there yet.
	port := freePort(t)
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	for day := range days { // it is switched off at night
		s := openSpool(t, quick(dir, url))
		stop := running(t, s)
		var events []json.RawMessage
		for n := range sales {
			events = append(events, sale(day*sales+n, 1))
		}
		for some := range slices.Chunk(events, 50) {
			if err := s.Store(t.Context(), region, orgName(1), some); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if got := s.Status(); got.Pending != (day+1)*sales || got.Connected {
			t.Fatalf("after %d days: got %+v, want %d events to wait", day+1, got, (day+1)*sales)
		}
		closeSpool(t, s)
	}

	s := openSpool(t, quick(dir, url))
	before := s.Status()
	if before.Oldest.IsZero() || time.Since(before.Oldest) > within {
		t.Errorf("the oldest event: got %s, want some time since the test began", before.Oldest)
	}
	running(t, s)
	enginetest.Eventually(t, "it says what it waits for", func() bool {
		return strings.Contains(s.Status().LastError, "not connected to NATS")
	})
	js := enginetest.JetStream(t, startBroker(t, local.BrokerConfig{Port: port}).URL())
	// The network is back before the stream is.
	enginetest.Eventually(t, "it says that there is no stream", func() bool {
		return strings.Contains(s.Status().LastError, "no stream takes scans here")
	})
	enginetest.Streams(t, js)
	drained(t, s)
	wantSales(t, js, 1, 0, days*sales)
	enginetest.Eventually(t, "it is content", func() bool { return s.Status().LastError == "" })
	after := s.Status()
	if !after.Oldest.IsZero() || after.Drained != days*sales || !after.Connected || after.SetAside != 0 {
		t.Errorf("afterwards: got %+v, want nothing to wait", after)
	}
	if after.Bytes > before.Bytes/2 {
		t.Errorf("its files have %d bytes of %d before, want them removed", after.Bytes, before.Bytes)
	}
	// What comes now goes at once.
	store(t, s, 1, days*sales, days*sales+5)
	drained(t, s)
	wantSales(t, js, 1, 0, days*sales+5)
}

func freePort(t testing.TB) int {
	t.Helper()
	b := startBroker(t, local.BrokerConfig{})
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

func TestManyTillsAtOnceKeepTheOrderOfEach(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	s := openSpool(t, quick(t.TempDir(), js.Conn().ConnectedUrl()))
	running(t, s)
	const tills, sales = 30, 100
	var all sync.WaitGroup
	for org := range tills {
		all.Go(func() { store(t, s, org, 0, sales) })
	}
	all.Wait()
	drained(t, s)
	for org := range tills {
		wantSales(t, js, org, 0, sales)
	}
}

func TestNATSIsRestartedWhileTheSpoolSends(t *testing.T) {
	cfg := local.BrokerConfig{Dir: t.TempDir(), Port: freePort(t)}
	broker := startBroker(t, cfg)
	js := enginetest.JetStream(t, broker.URL())
	enginetest.Streams(t, js)
	s := openSpool(t, quick(t.TempDir(), broker.URL()))
	running(t, s)
	for round := range 5 {
		store(t, s, 1, 200*round, 200*round+100)
		if err := broker.Close(); err != nil {
			t.Fatal(err)
		}
		store(t, s, 1, 200*round+100, 200*round+200)
		broker = startBroker(t, cfg)
	}
	drained(t, s)
	wantSales(t, js, 1, 0, 1000)
}

func TestTheStreamIsFullAndTheSpoolWaits(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	limit(t, js, 3)
	s := openSpool(t, quick(t.TempDir(), js.Conn().ConnectedUrl()))
	running(t, s)
	for n := range 3 {
		store(t, s, 1, n, n+1)
		drained(t, s)
	}
	store(t, s, 1, 3, 10)
	enginetest.Eventually(t, "it says why it waits", func() bool {
		return strings.Contains(s.Status().LastError, "full")
	})
	limit(t, js, -1)
	drained(t, s)
	wantSales(t, js, 1, 0, 10)
}

func TestTheSpoolIsFull(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	cfg := quick(t.TempDir(), js.Conn().ConnectedUrl())
	cfg.MaxBytes = 100_000
	s := openSpool(t, cfg)
	stored := 0
	var err error
	for ; err == nil; stored++ {
		err = s.Store(t.Context(), region, orgName(1), []json.RawMessage{sale(stored, 1)})
	}
	stored--
	if !errors.Is(err, scanner.ErrFull) {
		t.Fatalf("got %v, want %v", err, scanner.ErrFull)
	}
	for _, want := range []string{fmt.Sprintf("%d events wait", stored), cfg.Dir, "bring the network back", "raise the limit", "100000"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	if st := s.Status(); st.Bytes > cfg.MaxBytes || st.Pending != stored {
		t.Errorf("got %+v, want %d events in at most %d bytes", st, stored, cfg.MaxBytes)
	}
	running(t, s)
	drained(t, s)
	enginetest.Eventually(t, "there is room again", func() bool {
		return s.Store(t.Context(), region, orgName(1), []json.RawMessage{sale(stored, 1)}) == nil
	})
	drained(t, s)
	wantSales(t, js, 1, 0, stored+1)
}

func TestOneProcessASpool(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, scanner.SpoolConfig{Dir: dir})
	store(t, s, 1, 0, 3)
	if _, err := scanner.Open(scanner.SpoolConfig{Dir: dir}); !errors.Is(err, scanner.ErrLocked) {
		t.Errorf("got %v, want %v", err, scanner.ErrLocked)
	}
	if st, err := scanner.Look(dir); err != nil || st.Pending != 3 || st.Oldest.IsZero() {
		t.Errorf("looked at from outside: got %+v and %v, want 3 events to wait", st, err)
	}
	closeSpool(t, s)
	if err := s.Store(t.Context(), region, orgName(1), []json.RawMessage{sale(3, 1)}); !errors.Is(err, scanner.ErrClosed) {
		t.Errorf("stored after the end: got %v, want %v", err, scanner.ErrClosed)
	}
	if got := openSpool(t, scanner.SpoolConfig{Dir: dir}).Status().Pending; got != 3 {
		t.Errorf("opened again: got %d events, want 3", got)
	}
}

func TestAnEventIsPublishedByWhatItSaysItself(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	s := openSpool(t, quick(t.TempDir(), js.Conn().ConnectedUrl()))
	running(t, s)
	if err := s.Publish(t.Context(), sale(1, 7)); err != nil {
		t.Fatal(err)
	}
	var refusal *schema.Refusal
	if err := s.Publish(t.Context(), []byte(`{"kind":"sale"}`)); !errors.As(err, &refusal) {
		t.Errorf("an event that breaks the contract: got %v, want a refusal", err)
	}
	if err := s.Store(t.Context(), "33", "P1", []json.RawMessage{sale(1, 1)}); err == nil {
		t.Error("a region of two digits: got no error")
	}
	if err := s.Store(t.Context(), region, "P.>", []json.RawMessage{sale(1, 1)}); err == nil {
		t.Error("an org that is no part of a subject: got no error")
	}
	drained(t, s)
	wantSales(t, js, 7, 1, 2)
}

func TestEventsOfAnyFormTravelUnharmed(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	s := openSpool(t, quick(t.TempDir(), js.Conn().ConnectedUrl()))
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, sale(2, 1), "", "  "); err != nil {
		t.Fatal(err)
	}
	broken := `{"event_id":"broken`
	err := s.Store(t.Context(), region, orgName(1), []json.RawMessage{sale(0, 1), sale(1, 1), pretty.Bytes(), []byte(broken), sale(3, 1)})
	if err != nil {
		t.Fatal(err)
	}
	running(t, s)
	drained(t, s)
	got := lines(t, js)[orgName(1)]
	want := []string{string(sale(0, 1)), string(sale(1, 1)), string(sale(2, 1)), broken, string(sale(3, 1))}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := len(read(t, js)); n != 3 {
		t.Errorf("got %d messages, want what is broken in one of its own and the others before and behind it", n)
	}
}

func TestARefusedEventTravelsWithItsReason(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	s := openSpool(t, quick(t.TempDir(), js.Conn().ConnectedUrl()))
	raw := "not\nJSON \x00"
	why := schema.Refusal{Code: schema.RefuseJSON, Field: "time", Reason: "not a JSON object"}
	if err := s.StoreRefused(t.Context(), "", "P 1", []byte(raw), why); err != nil {
		t.Fatal(err)
	}
	store(t, s, 1, 0, 1)
	running(t, s)
	drained(t, s)
	got := read(t, js)[0]
	if got.subject != "scan.v1.unknown.unknown" || got.body != raw {
		t.Errorf("got %q on %s", got.body, got.subject)
	}
	for name, want := range map[string]string{
		schema.HeaderContentType: schema.ContentRefused, schema.HeaderRejectCode: "json", schema.HeaderRejectField: "time", schema.HeaderRejectReason: "not a JSON object",
	} {
		if h := got.header.Get(name); h != want {
			t.Errorf("%s: got %q, want %q", name, h, want)
		}
	}
	wantSales(t, js, 1, 0, 1)
}

func TestWhatNATSWillNeverTakeHoldsUpNobody(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{MaxPayload: 64 << 10})
	stream, err := js.Stream(t.Context(), schema.StreamScans)
	if err != nil {
		t.Fatal(err)
	}
	limits := func(bytes int32) {
		t.Helper()
		cfg := stream.CachedInfo().Config
		cfg.MaxMsgSize = bytes
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	limits(20 << 10)
	large := func(n, size int) []byte {
		return bytes.Replace(sale(n, 1), []byte("POS1"), bytes.Repeat([]byte("x"), size), 1)
	}
	dir := t.TempDir()
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	var events []json.RawMessage
	for n := range 200 { // more than a message of this stream
		switch n {
		case 50:
			events = append(events, large(n, 70<<10)) // than the server takes
		case 100:
			events = append(events, large(n, 30<<10)) // than the stream takes
		default:
			events = append(events, sale(n, 1))
		}
	}
	if err := s.Store(t.Context(), region, orgName(1), events); err != nil {
		t.Fatal(err)
	}
	stop := running(t, s)
	drained(t, s)
	if got := len(lines(t, js)[orgName(1)]); got != 198 {
		t.Errorf("in the stream: got %d events, want 198", got)
	}
	if st := s.Status(); st.SetAside != 2 || st.Drained != 198 || st.LastError != "" {
		t.Errorf("got %+v, want 2 set aside and no error", st)
	}
	aside := asideLines(t, dir)
	if len(aside) != 2 {
		t.Fatalf("set aside: got %d lines, want 2", len(aside))
	}
	for i, want := range []string{"larger than this NATS takes", "will never take"} {
		if !strings.Contains(aside[i].Reason, want) || aside[i].Org != orgName(1) || aside[i].Region != region {
			t.Errorf("set aside: got %s for %s, want it to say %q", aside[i].Reason, aside[i].Org, want)
		}
	}

	// The stream takes larger ones now: one of them can go.
	stop()
	limits(-1)
	if n, err := s.Readmit(t.Context()); err != nil || n != 2 {
		t.Fatalf("readmit: got %d and %v, want 2", n, err)
	}
	if st := s.Status(); st.SetAside != 0 || st.Pending != 2 {
		t.Errorf("readmitted: got %+v, want 2 to wait", st)
	}
	running(t, s)
	drained(t, s)
	if got := len(lines(t, js)[orgName(1)]); got != 199 {
		t.Errorf("in the stream: got %d events, want 199", got)
	}
	if st := s.Status(); st.SetAside != 1 {
		t.Errorf("got %+v, want 1 set aside", st)
	}
}

func TestACredentialForSomeInstitutionsOnly(t *testing.T) {
	url, js := guarded(t, orgName(1), orgName(2))
	dir := t.TempDir()
	s := openSpool(t, quick(dir, url))
	for n := range 50 {
		store(t, s, n%4, n, n+1)
	}
	stop := running(t, s)
	drained(t, s)
	got := lines(t, js)
	if len(got) != 2 || len(got[orgName(1)]) != 13 || len(got[orgName(2)]) != 12 {
		t.Errorf("got events of %d institutions, %d and %d of those that are allowed, want 13 and 12", len(got), len(got[orgName(1)]), len(got[orgName(2)]))
	}
	aside := asideLines(t, dir)
	if len(aside) != 25 || s.Status().SetAside != 25 {
		t.Errorf("set aside: got %d lines, counted %d, want 25", len(aside), s.Status().SetAside)
	}
	for _, a := range aside {
		if !strings.Contains(a.Reason, "does not allow") || a.Org != orgName(0) && a.Org != orgName(3) || len(a.Event) == 0 {
			t.Fatalf("set aside: got %+v, want events of the other institutions", a)
		}
	}
	stop()
	if n, err := s.Readmit(t.Context()); err != nil || n != 25 {
		t.Errorf("readmit: got %d and %v, want 25", n, err)
	}
	running(t, s)
	drained(t, s)
	if got := s.Status().SetAside; got != 25 {
		t.Errorf("still not allowed: got %d set aside, want 25", got)
	}
}

func TestACredentialThatIsNotValidNow(t *testing.T) {
	url, js := guarded(t, orgName(1))
	dir := t.TempDir()
	s := openSpool(t, quick(dir, strings.Replace(url, "secret", "wrong", 1)))
	store(t, s, 1, 0, 3)
	stop := running(t, s)
	enginetest.Eventually(t, "it says so", func() bool {
		return strings.Contains(strings.ToLower(s.Status().LastError), "authorization violation")
	})
	if st := s.Status(); st.Pending != 3 || st.SetAside != 0 {
		t.Errorf("got %+v, want all to wait", st)
	}
	stop()
	closeSpool(t, s)
	s = openSpool(t, quick(dir, url))
	running(t, s)
	drained(t, s)
	wantSales(t, js, 1, 0, 3)
}

// However events are stored, whenever the spool is closed and opened, and whether or
// not it could send meanwhile: each is in the stream once and in order.
func TestAnyLifeOfASpoolGivesTheSameEvents(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	org := 0
	rapid.Check(t, func(rt *rapid.T) {
		org++
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		cfg := quick(dir, js.Conn().ConnectedUrl())
		// A small limit makes small segments.
		cfg.MaxBytes = rapid.Int64Range(400_000, 2_000_000).Draw(rt, "bytes")
		stored := 0
		for range rapid.IntRange(1, 5).Draw(rt, "lives") {
			s, err := scanner.Open(cfg)
			if err != nil {
				rt.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1) // nobody runs it in some lives
			if rapid.Bool().Draw(rt, "online") {
				go func() { ended <- s.Run(ctx) }()
			} else {
				ended <- nil
			}
			for _, many := range rapid.SliceOfN(rapid.IntRange(0, 40), 0, 6).Draw(rt, "calls") {
				var events []json.RawMessage
				for range many {
					events = append(events, sale(stored, org))
					stored++
				}
				if err := s.Store(ctx, region, orgName(org), events); err != nil {
					rt.Fatal(err)
				}
			}
			cancel()
			if err := errors.Join(<-ended, s.Close()); err != nil {
				rt.Fatal(err)
			}
		}
		s := openSpool(t, cfg)
		stop := running(t, s)
		drained(t, s)
		stop()
		closeSpool(t, s)
		wantUnbroken(t, js, org, stored)
	})
}

// wantUnbroken is wantSales where what was on its way at an end may be there twice.
func wantUnbroken(t testing.TB, js jetstream.JetStream, org, before int) {
	t.Helper()
	next := 0
	for _, line := range lines(t, js)[orgName(org)] {
		id := number(strings.TrimLeft(line[bytes.IndexByte([]byte(line), '-')+1:][:8], "0") + " ")
		if id > next {
			t.Fatalf("event %d of %s comes where %d should", id, orgName(org), next)
		}
		next = max(next, id+1)
	}
	if next != before {
		t.Errorf("got events up to %d, want %d", next, before)
	}
}

func TestNothingIsKeptOfWhatWasSent(t *testing.T) {
	js := withStreams(t, local.BrokerConfig{})
	dir := t.TempDir()
	for range 3 {
		s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
		stop := running(t, s)
		store(t, s, 1, 0, 3)
		drained(t, s)
		stop()
		closeSpool(t, s)
	}
	s := openSpool(t, quick(dir, js.Conn().ConnectedUrl()))
	if st := s.Status(); st.Bytes != 0 || st.Pending != 0 {
		t.Errorf("got %+v, want an empty spool", st)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if filepath.Ext(name.Name()) == ".spool" {
			t.Errorf("%s is still there", name.Name())
		}
	}
}
