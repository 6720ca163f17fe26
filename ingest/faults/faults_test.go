package faults_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"yaosu/ingest"
	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
	"yaosu/local"
	"yaosu/schema"
)

// fault is one thing that breaks, while traffic comes in.
type fault struct {
	name   string
	world  setting
	breaks func(w *world) // publishes, breaks and mends; ingesters may be left running
	allow  doubles
}

// TestFaults breaks one thing after the other. After each all is counted.
func TestFaults(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, f.world)
			f.breaks(w)
			w.drained()
			w.audit(f.allow)
		})
	}
}

func faults() []fault {
	list := []fault{
		{name: "nothing breaks", breaks: nothingBreaks},

		// The engine says no for a while.
		{name: "the table is away and comes back", breaks: theTableIsAway},
		{name: "the table is read-only for a while", breaks: theTableIsReadOnly},
		{name: "there are too many parts for a while", breaks: tooManyParts},
		{name: "inserts get too little memory for a while, over HTTP", breaks: tooLittleMemory},
		{name: "inserts get too little memory for a while, over native", world: setting{transport: "native"}, breaks: tooLittleMemory},
		{name: "the disk of the engine is full for a while", world: setting{ownEngine: true, smallDisk: true}, breaks: theDiskIsFull},

		// The engine does it and does not say so.
		{name: "an insert is done and its answer lost, over HTTP", world: setting{proxied: true}, breaks: theAnswerIsLost},
		{name: "an insert is done and its answer lost, over native", world: setting{proxied: true, transport: "native"}, breaks: theAnswerIsLost},

		// The engine dies.
		{name: "the engine is killed in the middle of inserts, over HTTP", world: setting{ownEngine: true, proxied: true}, breaks: theEngineIsKilled},
		{name: "the engine is killed in the middle of inserts, over native", world: setting{ownEngine: true, proxied: true, transport: "native"}, breaks: theEngineIsKilled},
		{name: "the engine is gone for a while", world: setting{ownEngine: true}, breaks: theEngineIsGone},
		{name: "the engine is slow and the stream fills up", world: setting{proxied: true}, breaks: theEngineIsSlow},

		// The broker dies.
		{name: "the broker is killed and started again", breaks: theBrokerIsKilled},
		{name: "the broker is away when the ingester starts", breaks: theBrokerIsAwayAtTheStart},
		{name: "the stream is put back from an older copy, and less comes than was lost", breaks: olderCopy(500), allow: mayDouble},
		{name: "the stream is put back from an older copy, and more comes than was lost", breaks: olderCopy(3000), allow: mayDouble},
		{name: "the end of the stream is lost while two ingesters share it", breaks: theEndIsLost, allow: mayDouble},

		// The ingester dies.
		{name: "the ingester is killed in the middle of inserts, over HTTP", world: setting{proxied: true}, breaks: killedInTheMiddle},
		{name: "the ingester is killed in the middle of inserts, over native", world: setting{ownEngine: true, proxied: true, transport: "native"}, breaks: killedInTheMiddle},
		{name: "ten ingesters die of one batch", breaks: tenDieOfOneBatch},
		{name: "the ingester is asked to end with a batch in hand", breaks: askedToEndWithABatchInHand},
		{name: "the ingester is asked to end before an insert", breaks: askedToEnd("before insert")},
		{name: "the ingester is asked to end after an insert", breaks: askedToEnd("after insert")},
		{name: "the ingester is asked to end while the engine says no", breaks: askedToEndWithTheTableAway},

		// There are two.
		{name: "two ingesters share a backlog and one is killed", breaks: oneOfTwoIsKilled},
		{name: "two ingesters share a backlog and one is stopped for a while", breaks: oneOfTwoIsStopped},
		{name: "an ingester is cut off from the broker in the middle of an insert", world: setting{proxied: true}, breaks: cutOffFromTheBroker},

		// What comes is odd.
		{name: "everything is published three times", breaks: publishedThreeTimes},
		{name: "one event among 100,000 is bad", breaks: oneBadEvent},
		{name: "the table refuses one row among 100,000", breaks: oneBadRow},
		{name: "the clock of the broker jumps by days", breaks: theClockJumps},

		// What the ingester knows is gone.
		{name: "the ledger is deleted before a start", breaks: theLedgerIsGoneAtTheStart, allow: mayDouble},
		{name: "the ledger is deleted while two ingesters run", breaks: theLedgerIsDeleted, allow: mayDouble},
	}
	for _, step := range ingest.Steps {
		for _, when := range []string{"before ", "after "} {
			word := when + step
			list = append(list, fault{name: "the ingester is killed " + word, breaks: killedAt(word)})
			if step != "claim" {
				list = append(list, fault{name: "the ingester stalls " + word + " and another takes over", breaks: stalledAt(word)})
			}
		}
	}
	return list
}

func nothingBreaks(w *world) {
	i := w.start(nil)
	w.publish(w.events(0, 20_000), 100)
	w.publish(w.events(20_000, 21_000), 1)
	w.drained()
	w.ended(i)
}

// refused runs traffic while the engine says no, from deny to allow.
func (w *world) refused(deny, allow func()) {
	w.t.Helper()
	i := w.start(nil)
	w.publish(w.events(0, 3000), 50)
	w.drained()
	deny()
	w.publish(w.events(3000, 6000), 50)
	w.retries(i, 3)
	stored := w.rows()
	w.publish(w.events(6000, 9000), 50)
	w.retries(i, 4)
	if now := w.rows(); now != stored && now >= 0 && stored >= 0 {
		w.t.Errorf("%d rows came in while the engine said no, want none", now-stored)
	}
	w.wantNothingRefused()
	allow()
}

// wantNothingRefused wants that the engine's trouble costs no event.
func (w *world) wantNothingRefused() {
	w.t.Helper()
	if n := w.count("SELECT count() FROM rejects WHERE code = 'table'"); n > 0 {
		w.t.Errorf("%d events were refused for the engine's trouble", n)
	}
}

func theTableIsAway(w *world) {
	w.refused(
		func() { w.exec("RENAME TABLE scan_rows TO away") },
		func() { w.exec("RENAME TABLE away TO scan_rows") },
	)
}

func theTableIsReadOnly(w *world) {
	w.refused(
		func() { w.exec("ALTER TABLE scan_rows MODIFY SETTING table_readonly = 1") },
		func() { w.exec("ALTER TABLE scan_rows MODIFY SETTING table_readonly = 0") },
	)
}

func tooManyParts(w *world) {
	w.refused(
		func() {
			w.exec("ALTER TABLE scan_rows MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1")
		},
		func() { w.exec("ALTER TABLE scan_rows RESET SETTING parts_to_throw_insert, parts_to_delay_insert") },
	)
}

// An insert needs more memory than its user may take, until somebody grants more.
func tooLittleMemory(w *world) {
	poor := w.start(func(cfg *proc.IngesterConfig) {
		cfg.ClickHouse = withSetting(w.t, w.dsn, "max_memory_usage", "4000000") // a look at the placeholders takes less
		cfg.MaxRows = 50_000
		cfg.DrainTime = time.Second
	})
	w.publish(w.events(0, 30_000), 500)
	w.retries(poor, 4)
	if n := w.rows(); n != 0 {
		w.t.Errorf("%d rows came in, want none with so little memory", n)
	}
	w.wantNothingRefused()
	w.ended(poor)
	w.start(nil)
}

// A file takes what the disk of the engine has.
func theDiskIsFull(w *world) {
	filler := filepath.Join(w.disk(w.engine), "filler")
	w.refused(
		func() {
			if err := fill(filler); !errors.Is(err, syscall.ENOSPC) {
				w.t.Fatalf("fill the disk: got %v, want %v", err, syscall.ENOSPC)
			}
		},
		func() {
			if err := os.Remove(filler); err != nil {
				w.t.Fatal(err)
			}
		},
	)
}

func theAnswerIsLost(w *world) {
	i := w.start(nil)
	next := 0
	for range 4 {
		before := w.rows()
		w.proxy.hush(true)
		w.publish(w.events(next, next+3000), 100)
		next += 3000
		w.grows(before)
		enginetest.Eventually(w.t, "an answer is kept", func() bool { return w.proxy.hushed() > 0 })
		w.proxy.hush(false)
		w.proxy.cut()
		w.drained()
	}
	w.ended(i)
}

func theEngineIsKilled(w *world) {
	w.start(nil)
	next := 0
	for n := range 3 {
		w.proxy.limit(200 << 10) // so that there is a middle
		w.proxy.hush(true)
		w.publish(w.events(next, next+4000), 100)
		next += 4000
		enginetest.Eventually(w.t, "an insert is on its way", func() bool { return w.proxy.hushed() > 0 })
		w.engine.Kill()
		w.proxy.hush(false)
		w.proxy.limit(0)
		w.proxy.cut()
		enginetest.Eventually(w.t, "the engine is back", func() bool { return w.engineRestarts() > n })
	}
}

// awayTime is how long the engine is gone in the table of faults.
const awayTime = 15 * time.Second

func theEngineIsGone(w *world) {
	w.start(nil)
	w.publish(w.events(0, 3000), 50)
	w.drained()
	ctx, stop := context.WithCancel(w.t.Context())
	var publishing sync.WaitGroup
	next := 3000
	s := &sender{w: w, js: w.js, per: 100, pause: 20 * time.Millisecond, numbers: func() int { next++; return next }}
	publishing.Go(func() { s.run(ctx, rand.New(rand.NewPCG(1, 1))) })
	w.engineAway(awayTime)
	stop()
	publishing.Wait()
	if s.refused > 0 {
		w.t.Errorf("%d publishes were refused, want none: the stream had room", s.refused)
	}
}

// engineAway ends the engine and starts it again on its ports after d.
func (w *world) engineAway(d time.Duration) {
	w.t.Helper()
	cfg := w.engineConfig
	cfg.NativePort = portOf(w.t, w.engine.NativeDSN())
	cfg.HTTPPort = portOf(w.t, w.engine.HTTPDSN())
	if err := w.engine.Close(); err != nil {
		w.t.Logf("close the engine: %v", err)
	}
	w.restarts += w.engine.Restarts()
	passes(d)
	var err error
	if w.engine, err = local.StartEngine(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
}

// slowRate is what a slow engine takes, bytes a second.
const slowRate = 100 << 10

// mostRSS is what an ingester may take, whatever the backlog.
const mostRSS = 512 << 20

func theEngineIsSlow(w *world) {
	stream, err := w.js.Stream(w.t.Context(), schema.StreamScans)
	if err != nil {
		w.t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = 24 << 20
	if _, err := w.js.UpdateStream(w.t.Context(), config); err != nil {
		w.t.Fatal(err)
	}
	w.proxy.limit(slowRate)
	i := w.start(func(cfg *proc.IngesterConfig) {
		cfg.MaxRows = 0 // as it is used
		cfg.KeepBytes = 1 << 20
	})
	ctx, stop := context.WithCancel(w.t.Context())
	var publishing sync.WaitGroup
	next := 0
	s := &sender{w: w, js: w.js, per: 1000, again: true, numbers: func() int { next++; return next }}
	full := make(chan struct{})
	s.onRefusal = sync.OnceFunc(func() { close(full) })
	publishing.Go(func() { s.run(ctx, rand.New(rand.NewPCG(1, 1))) })
	select {
	case <-full:
	case <-time.After(patience):
		w.t.Error("no publish was refused, though the engine is slow and the stream small")
	}
	usage, err := i.Usage()
	if err != nil {
		w.t.Fatal(err)
	}
	w.proxy.limit(0)
	before := w.rows()
	w.grows(before)
	stop()
	publishing.Wait()
	w.drained()
	w.t.Logf("%d events came, %d publishes were refused; the ingester took %d MiB at most, %d MiB with the stream full",
		next, s.refused, usage.PeakRSS>>20, usage.RSS>>20)
	if usage.PeakRSS > mostRSS {
		w.t.Errorf("the ingester took %d MiB, want at most %d", usage.PeakRSS>>20, mostRSS>>20)
	}
}

func theBrokerIsKilled(w *world) {
	w.start(nil)
	for round := range 3 {
		from := round * 6000
		w.publish(w.events(from, from+3000), 20)
		w.broker.Kill()
		w.broker.Start()
		enginetest.Reconnected(w.t, w.js.Conn())
		w.publish(w.events(from+3000, from+6000), 20)
	}
}

func theBrokerIsAwayAtTheStart(w *world) {
	w.publish(w.events(0, 1000), 20)
	w.broker.Kill()
	i := w.start(nil)
	select {
	case <-i.Done():
		// A service manager would start it again.
		w.t.Logf("it ended: %v", i.Wait())
		w.broker.Start()
		w.start(nil)
	case <-time.After(2 * time.Second):
		w.broker.Start()
	}
	enginetest.Reconnected(w.t, w.js.Conn())
}

// olderCopy puts SCANS back as it was before some of what is stored came, and then
// has new messages come that get the sequences of the lost ones.
func olderCopy(more int) func(*world) {
	return func(w *world) {
		i := w.start(nil)
		w.publish(w.events(0, 1000), 5)
		w.drained()
		older := w.copyStream()
		w.publish(w.events(1000, 2000), 5)
		w.drained()
		w.ended(i)
		w.putBackStream(older)
		w.publish(w.events(5000, 5000+more), 5)
		w.start(nil)
	}
}

// theEndIsLost is what a cut of power leaves that took the newest messages and not
// the ledger: one ingester was slow at the first of them, the other had stored the
// last.
func theEndIsLost(w *world) {
	w.cfg.Workers = 1
	w.cfg.MaxRows = 200
	w.padding = 1 << 20
	w.publish(w.events(0, 3000), 20) // 150 messages, more than one stretch
	older := w.copyStream()
	w.publish(w.events(3000, 4000), 20)
	w.padding = 0
	slow := w.startTo(proc.Halt, "before insert", 1)
	enginetest.Eventually(w.t, "it stands still", slow.Stopped)
	fast := w.start(func(cfg *proc.IngesterConfig) { cfg.LeaseTime = time.Hour })
	w.grows(0)
	enginetest.Eventually(w.t, "the other stretch is stored", func() bool { return w.count("SELECT count() FROM scan_rows WHERE event_id = 'e000003999'") > 0 }) // of its last message
	fast.Kill()
	slow.Kill()
	w.putBackStream(older)
	w.publish(w.events(5000, 5200), 20)
	w.start(nil)
}

// copyStream copies SCANS as it is on the disk of the broker.
func (w *world) copyStream() (dir string) {
	w.t.Helper()
	dir = w.t.TempDir()
	w.restartBroker(func() {
		if err := os.CopyFS(dir, os.DirFS(w.streamDir())); err != nil {
			w.t.Fatal(err)
		}
	})
	return dir
}

// putBackStream makes a copy the stream.
func (w *world) putBackStream(dir string) {
	w.t.Helper()
	w.restartBroker(func() {
		if err := os.RemoveAll(w.streamDir()); err != nil {
			w.t.Fatal(err)
		}
		if err := os.CopyFS(w.streamDir(), os.DirFS(dir)); err != nil {
			w.t.Fatal(err)
		}
	})
}

func (w *world) streamDir() string {
	return filepath.Join(w.brokerDir, "nats", "jetstream", "$G", "streams", schema.StreamScans)
}

// restartBroker does something while the broker is down.
func (w *world) restartBroker(between func()) {
	w.t.Helper()
	if err := w.broker.Terminate(); err != nil {
		w.t.Fatal(err)
	}
	between()
	w.broker.Start()
	enginetest.Reconnected(w.t, w.js.Conn())
}

// killedInTheMiddle kills ingesters when an insert is on its way.
func killedInTheMiddle(w *world) {
	for round := range 4 {
		i := w.start(nil)
		w.proxy.limit(200 << 10) // so that there is a middle
		w.proxy.hush(true)
		w.publish(w.events(round*4000, (round+1)*4000), 100)
		enginetest.Eventually(w.t, "an insert is on its way", func() bool { return w.proxy.hushed() > 0 })
		i.Kill()
		w.proxy.hush(false)
		w.proxy.limit(0)
		w.proxy.cut()
	}
	w.start(nil)
}

// killedAt has ingesters kill themselves at a step, at its first, second and
// third time.
func killedAt(word string) func(*world) {
	return func(w *world) {
		for round := range 3 {
			w.cfg.MaxRows = 200 + 130*round // many batches, and each time others
			w.publish(w.events(round*1500, (round+1)*1500), 25)
			nth := round + 1
			if strings.HasSuffix(word, "claim") {
				nth = 1 // of one stretch there is one
			}
			w.died(w.startTo(proc.Die, word, nth))
		}
		w.start(nil)
	}
}

// tenDieOfOneBatch is for a message that reached any limit somebody may have set.
func tenDieOfOneBatch(w *world) {
	w.cfg.MaxRows = 100_000
	w.publish(w.events(0, 1500), 25)
	w.died(w.startTo(proc.Die, "after insert", 1))
	w.cfg.MaxRows = 100 // who comes later would cut it smaller
	for range 9 {
		w.died(w.startTo(proc.Die, "before insert", 1))
	}
	w.start(nil)
}

func askedToEndWithABatchInHand(w *world) {
	i := w.start(func(cfg *proc.IngesterConfig) {
		cfg.MaxRows = 100_000
		cfg.MaxAge = time.Hour // nothing but the end brings it to the table
	})
	w.publish(w.events(0, 3000), 25)
	enginetest.Eventually(w.t, "all is in hand", func() bool {
		r, err := i.Report()
		if err != nil {
			w.t.Fatal(err)
		}
		return r.Counts.Read == 3000/25
	})
	if n := w.rows(); n != 0 {
		w.t.Errorf("%d rows are stored before it is asked to end, want none", n)
	}
	w.ended(i)
	w.audit(noDoubles) // by it, not by a next one
}

func askedToEnd(word string) func(*world) {
	return func(w *world) {
		w.cfg.MaxRows = 200
		w.publish(w.events(0, 3000), 25)
		i := w.startTo(proc.Term, word, 3)
		if err := i.Wait(); err != nil {
			w.t.Errorf("it ended with %v, want exit status 0", err)
		}
		if n := w.rows(); n == 0 {
			w.t.Error("it stored nothing")
		}
		w.start(nil)
	}
}

func askedToEndWithTheTableAway(w *world) {
	w.publish(w.events(0, 3000), 25)
	w.exec("RENAME TABLE scan_rows TO away")
	i := w.start(func(cfg *proc.IngesterConfig) { cfg.DrainTime = 500 * time.Millisecond })
	w.retries(i, 2)
	w.ended(i)
	w.exec("RENAME TABLE away TO scan_rows")
	w.start(nil)
}

// stalledAt has an ingester stand still at a step until another one has done its
// work, and then go on.
func stalledAt(word string) func(*world) {
	return func(w *world) {
		w.cfg.MaxRows = 200
		w.cfg.LeaseTime = time.Second
		w.publish(w.events(0, 1500), 25)
		stalled := w.startTo(proc.Halt, word, 2)
		enginetest.Eventually(w.t, "it stands still", stalled.Stopped)
		w.cfg.MaxRows = 330 // who comes later would cut it otherwise
		other := w.start(nil)
		w.drained()
		if r := w.report(other); r.Counts.Adopted == 0 {
			w.t.Error("the other one took nothing over")
		}
		w.awakes(stalled)
		w.publish(w.events(1500, 3000), 25)
		w.drained()
		w.ended(stalled)
		w.ended(other)
	}
}

// awakes lets a stalled ingester go on, and wants it to see what it has lost.
func (w *world) awakes(stalled *proc.Ingester) {
	w.t.Helper()
	if err := stalled.Continue(); err != nil {
		w.t.Fatal(err)
	}
	enginetest.Eventually(w.t, "the stalled one sees that its stretch is another's", func() bool { return w.report(stalled).Counts.Lost > 0 })
}

func (w *world) report(i *proc.Ingester) proc.Report {
	w.t.Helper()
	r, err := i.Report()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// backlog publishes messages so large that they make several stretches.
func (w *world) backlog() {
	w.t.Helper()
	const messages, per, pad = 300, 20, 1 << 20
	w.padding = pad
	w.publish(w.events(0, messages*per), per)
	w.padding = 0
}

// share starts two ingesters and returns when both have stored something.
func (w *world) share() (one, other *proc.Ingester) {
	w.t.Helper()
	w.cfg.MaxRows = 200
	w.cfg.Workers = 1
	w.backlog()
	one = w.start(nil)
	w.cfg.MaxRows = 330
	other = w.start(nil)
	enginetest.Eventually(w.t, "both have stored something", func() bool {
		return w.report(one).Counts.Events > 0 && w.report(other).Counts.Events > 0
	})
	return one, other
}

func oneOfTwoIsKilled(w *world) {
	one, other := w.share()
	one.Kill()
	w.drained()
	if r := w.report(other); r.Counts.Adopted == 0 {
		w.t.Error("the other one took nothing over")
	}
}

func oneOfTwoIsStopped(w *world) {
	w.cfg.LeaseTime = time.Second
	one, other := w.share()
	if err := one.Stop(); err != nil {
		w.t.Fatal(err)
	}
	w.drained()
	if err := one.Continue(); err != nil {
		w.t.Fatal(err)
	}
	w.publish(w.events(500_000, 501_000), 25)
	w.drained()
	w.ended(one)
	w.ended(other)
}

// cutOffFromTheBroker leaves an ingester with the engine alone: it counts as dead
// at once, and is not.
func cutOffFromTheBroker(w *world) {
	relay := startRelay(w.t, w.broker.URL(), nil)
	cutOff := w.start(func(cfg *proc.IngesterConfig) { cfg.NATS = relay.url })
	w.proxy.limit(100 << 10)
	w.proxy.hush(true)
	w.publish(w.events(0, 4000), 100)
	enginetest.Eventually(w.t, "an insert is on its way", func() bool { return w.proxy.hushed() > 0 })
	relay.stop()
	other := w.start(func(cfg *proc.IngesterConfig) { cfg.ClickHouse = w.direct })
	w.drained()
	w.proxy.hush(false)
	w.proxy.limit(0)
	w.proxy.cut() // whatever the first made of it, it tries again
	relay.start()
	w.publish(w.events(4000, 6000), 100)
	w.drained()
	w.ended(cutOff)
	w.ended(other)
}

// publishedThreeTimes is what a spool does that lost its memory: the same events,
// in other messages.
func publishedThreeTimes(w *world) {
	for _, per := range []int{50, 7, 1} {
		i := w.start(func(cfg *proc.IngesterConfig) { cfg.MaxRows = 300 + per })
		w.publish(w.events(0, 3000), per)
		if per == 7 {
			i.Kill()
		} else {
			w.drained()
			w.ended(i)
		}
	}
	w.start(nil)
}

const many = 100_000

func (w *world) goodEvents(from, to int) []event {
	list := make([]event, 0, to-from)
	for n := from; n < to; n++ {
		list = append(list, goodEvent(n, schema.Sale, "D1", w.key))
	}
	return list
}

func (w *world) wantRejects(want int64) {
	w.t.Helper()
	if n := w.count("SELECT count() FROM rejects"); n != want {
		w.t.Errorf("%d events are refused, want %d", n, want)
	}
}

func oneBadEvent(w *world) {
	w.cfg.MaxRows = 0 // as it is used
	events := w.goodEvents(0, many)
	events[many/2+17] = badEvent(many)
	w.publish(events, 500)
	w.start(nil)
	w.drained()
	w.wantRejects(1)
}

func oneBadRow(w *world) {
	w.exec("ALTER TABLE scan_rows ADD CONSTRAINT no_poison CHECK device != '" + poison + "'")
	w.cfg.MaxRows = 0
	events := w.goodEvents(0, many)
	bad := goodEvent(many/2+17, schema.Sale, poison, w.key)
	bad.bad, bad.rows, bad.person = true, nil, ""
	events[many/2+17] = bad
	w.publish(events, 500)
	w.start(nil)
	w.drained()
	w.wantRejects(1)
}

// theClockJumps gives messages times that are days apart, back and forth. Who
// reads a message again finds the same time, as it is stored with it.
func theClockJumps(w *world) {
	relay := startRelay(w.t, w.broker.URL(), func(seq uint64) time.Duration {
		return time.Duration(seq%5-2) * 36 * time.Hour
	})
	w.cfg.NATS = relay.url
	w.cfg.MaxRows = 200
	for round, word := range []string{"before insert", "after insert", "before close"} {
		w.publish(w.events(round*1500, (round+1)*1500), 25)
		w.died(w.startTo(proc.Die, word, 3))
	}
	w.start(nil)
	w.drained()
	if n := w.count("SELECT uniqExact(toDate(received)) FROM scans"); n < 3 {
		w.t.Errorf("received on %d days, want the clock to have jumped", n)
	}
}

func theLedgerIsGoneAtTheStart(w *world) {
	i := w.start(nil)
	w.publish(w.events(0, 3000), 25)
	w.drained()
	w.ended(i)
	w.deleteLedger()
	w.start(nil)
	w.publish(w.events(3000, 4000), 25)
}

func theLedgerIsDeleted(w *world) {
	w.cfg.MaxRows = 200
	w.publish(w.events(0, 10_000), 25)
	w.start(nil)
	w.start(nil)
	w.grows(2000)
	w.deleteLedger()
	w.publish(w.events(10_000, 12_000), 25)
	w.drained()
	w.deleteLedger()
	w.publish(w.events(12_000, 13_000), 25)
}

func (w *world) deleteLedger() {
	w.t.Helper()
	if err := w.js.DeleteKeyValue(w.t.Context(), "INGEST"); err != nil {
		w.t.Fatal(err)
	}
}
