package faults_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
)

// TestChaos publishes and breaks things at random, for as long as -chaos says,
// then mends everything and counts. The seed decides what is done and in which
// order; the processes decide what that does.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	again := fmt.Sprintf("go test ./ingest/faults -run TestChaos -chaos %s -seed %d -v", *chaosTime, seed)
	t.Log(again)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("this was: " + again)
		}
	})
	w := newWorld(t, setting{ownEngine: true})
	w.exec("SYSTEM START MERGES scan_rows") // for minutes there would be too many parts
	w.cfg.Log = slog.LevelInfo
	w.cfg.MaxRows = 0
	w.cfg.MaxAge = 0
	w.cfg.KeepBytes = 64 << 20
	m := &monkey{w: w, rand: rand.New(rand.NewPCG(seed, 0)), begun: time.Now(), did: map[string]int{}}
	for i := range m.ingesters {
		m.begin(i)
	}

	ctx, stop := context.WithTimeout(t.Context(), *chaosTime)
	defer stop()
	publishing := m.publish(ctx, seed)
	m.play(ctx)
	publishing.Wait()
	m.mend()
	m.tell()
	w.drained()
	for _, i := range m.ingesters {
		w.ended(i)
	}
	m.tell()
	w.audit(noDoubles)
	if by := w.engineRestarts() - m.engineKills; by > 0 {
		t.Logf("the engine ended %d times by itself", by)
	}
}

// monkey breaks things.
type monkey struct {
	w           *world
	rand        *rand.Rand
	begun       time.Time
	ingesters   [3]*proc.Ingester
	numbers     atomic.Int64
	did         map[string]int
	killed      int   // process id of the engine killed last
	engineKills int   // of engines that lived
	rss         int64 // the most an ingester took
	gaveUp      int   // ingesters that ended by themselves with an error
}

// A trick is one thing the monkey does. The first of each is done soon, so that a
// short play has all of them.
type trick struct {
	name string
	do   func(m *monkey)
	odds int
}

func tricks() []trick {
	return []trick{
		{"kill an ingester", (*monkey).killIngester, 6},
		{"kill all ingesters", (*monkey).killIngesters, 2},
		{"stop an ingester", (*monkey).stopIngester, 4},
		{"end an ingester", (*monkey).endIngester, 3},
		{"kill the broker", (*monkey).killBroker, 2},
		{"stop the broker", (*monkey).stopBroker, 1},
		{"kill the engine", (*monkey).killEngine, 2},
		{"stop the engine", (*monkey).stopEngine, 1},
		{"kill everything", (*monkey).killEverything, 1},
		{"leave it alone", (*monkey).rest, 2},
	}
}

// play does tricks until ctx ends.
func (m *monkey) play(ctx context.Context) {
	var deck []trick
	for _, t := range tricks() {
		for range t.odds {
			deck = append(deck, t)
		}
	}
	first := tricks()
	m.rand.Shuffle(len(first), func(i, j int) { first[i], first[j] = first[j], first[i] })
	if *chaosTime >= longPlay {
		first = append(first, trick{"take the engine away for a minute", (*monkey).takeEngineAway, 0})
	}
	told := time.Now()
	for ctx.Err() == nil {
		passes(m.upTo(time.Second))
		m.weigh()
		m.restart()
		t := deck[m.rand.IntN(len(deck))]
		if len(first) > 0 {
			t, first = first[0], first[1:]
		}
		fmt.Fprintf(m.w.logs, "%s chaos: %s\n", time.Now().Format(time.RFC3339Nano), t.name)
		t.do(m)
		m.did[t.name]++
		if time.Since(told) > 30*time.Second {
			m.tell()
			told = time.Now()
		}
	}
}

// longPlay is one that has a minute to spare.
const longPlay = 5 * time.Minute

func (m *monkey) takeEngineAway() { m.w.engineAway(time.Minute) }

func (m *monkey) upTo(d time.Duration) time.Duration { return time.Duration(m.rand.Int64N(int64(d))) }

func (m *monkey) any() int { return m.rand.IntN(len(m.ingesters)) }

// begin starts an ingester in a place, with limits and a transport of its own.
func (m *monkey) begin(place int) {
	w := m.w
	rows := []int{0, 500, 5000, 50_000}[m.rand.IntN(4)]
	dsn := w.engine.HTTPDSN()
	if m.rand.IntN(4) == 0 {
		dsn = w.engine.NativeDSN()
	}
	m.ingesters[place] = w.start(func(cfg *proc.IngesterConfig) {
		cfg.MaxRows = rows
		cfg.ClickHouse = dsn
	})
}

// weigh notes the most an ingester took.
func (m *monkey) weigh() {
	for _, i := range m.ingesters {
		if usage, err := i.Usage(); err == nil {
			m.rss = max(m.rss, usage.PeakRSS)
		}
	}
}

// restart does what a service manager does with ingesters that ended.
func (m *monkey) restart() {
	for place, i := range m.ingesters {
		if i.Alive() {
			continue
		}
		var exit *exec.ExitError
		if err := i.Wait(); errors.As(err, &exit) && exit.Exited() {
			// 1 is what it says when, say, the broker is away at the start.
			if m.gaveUp++; exit.ExitCode() != 1 {
				m.w.t.Errorf("an ingester ended with %v", err)
			}
		}
		m.begin(place)
	}
}

func (m *monkey) killIngester() { m.ingesters[m.any()].Kill() }

func (m *monkey) killIngesters() {
	for _, i := range m.ingesters {
		i.Kill()
	}
}

func (m *monkey) stopIngester() {
	i := m.ingesters[m.any()]
	if err := i.Stop(); err != nil {
		return // it is gone
	}
	passes(m.upTo(3 * m.w.cfg.LeaseTime))
	if err := i.Continue(); err != nil && i.Alive() {
		m.w.t.Error(err)
	}
}

func (m *monkey) endIngester() {
	i := m.ingesters[m.any()]
	if err := i.Terminate(); err != nil && !i.Alive() {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 1 {
			m.gaveUp++ // it had ended before
			return
		}
		m.w.t.Errorf("asked to end, an ingester ended with %v, want exit status 0", err)
	}
}

func (m *monkey) killBroker() {
	m.w.broker.Kill()
	passes(m.upTo(2 * time.Second))
	m.w.broker.Start()
}

func (m *monkey) stopBroker() {
	if err := m.w.broker.Stop(); err != nil {
		m.w.t.Error(err)
	}
	passes(m.upTo(5 * time.Second))
	if err := m.w.broker.Continue(); err != nil {
		m.w.t.Error(err)
	}
}

func (m *monkey) killEngine() {
	if pid := m.w.engine.Pid(); pid != m.killed {
		m.killed = pid
		m.engineKills++
	}
	m.w.engine.Kill()
}

func (m *monkey) stopEngine() {
	pid := m.w.engine.Pid()
	// The only error is that it died by itself just now.
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	passes(m.upTo(5 * time.Second))
	_ = syscall.Kill(pid, syscall.SIGCONT)
}

func (m *monkey) killEverything() {
	m.killEngine()
	m.killIngesters()
	m.killBroker()
}

func (m *monkey) rest() { passes(m.upTo(3 * time.Second)) }

// mend waits until all runs again.
func (m *monkey) mend() {
	w := m.w
	enginetest.Reconnected(w.t, w.js.Conn())
	enginetest.Eventually(w.t, "the engine is back", func() bool { return w.rows() >= 0 })
	enginetest.Eventually(w.t, "the ingesters run", func() bool {
		m.restart()
		for _, i := range m.ingesters {
			if _, err := i.Report(); err != nil {
				return false
			}
		}
		return true
	})
}

// publish starts senders of many kinds, until ctx ends.
func (m *monkey) publish(ctx context.Context, seed uint64) *sync.WaitGroup {
	next := func() int { return int(m.numbers.Add(1)) }
	old := func(chance *rand.Rand) func() int {
		return func() int { return chance.IntN(int(m.numbers.Load()) + 1) }
	}
	again := rand.New(rand.NewPCG(seed, 100))
	senders := []*sender{
		{numbers: next, per: 1, pause: 5 * time.Millisecond},                       // a counter that forgets
		{numbers: next, per: 1, pause: 5 * time.Millisecond, again: true},          // one that does not
		{numbers: next, per: 50, pause: 50 * time.Millisecond, again: true},        // a spool
		{numbers: next, per: 2000, pause: 2 * time.Second, again: true},            // a hospital
		{numbers: next, per: 5, pause: 100 * time.Millisecond, padding: 1 << 20},   // what makes stretches short
		{numbers: old(again), per: 20, pause: 200 * time.Millisecond, again: true}, // one that repeats itself
	}
	var publishing sync.WaitGroup
	for n, s := range senders {
		s.w, s.js = m.w, enginetest.JetStream(m.w.t, m.w.broker.URL())
		publishing.Go(func() { s.run(ctx, rand.New(rand.NewPCG(seed, uint64(n+1)))) })
	}
	return &publishing
}

// tell prints how it goes, and looks at what must be true at any time.
func (m *monkey) tell() {
	w := m.w
	w.t.Helper()
	w.book.mu.Lock()
	acked, sent := w.book.acked, w.book.sent
	w.book.mu.Unlock()
	last, _ := w.lastSeq()
	stored, _ := w.storedUpTo()
	m.weigh()
	w.t.Logf("%s: %d events acknowledged, %d sent; stored up to %d of %d messages; %d rows; an ingester takes %d MiB at most; %d ended by themselves; %v",
		time.Since(m.begun).Round(time.Second), acked, sent, stored, last, w.rows(), m.rss>>20, m.gaveUp, m.did)
	if m.rss > mostRSS {
		w.t.Errorf("an ingester took %d MiB, want at most %d", m.rss>>20, mostRSS>>20)
	}
	if n := w.count(strangers); n > 0 {
		w.t.Errorf("%d persons in the table are missing in the vault", n)
	}
}
