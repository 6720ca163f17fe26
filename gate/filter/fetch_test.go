package filter_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"yaosu/gate/filter"
	"yaosu/internal/enginetest"
)

// agent is a Fetcher and its Set.
type agent struct {
	*filter.Fetcher
	set   *filter.Set
	dir   string
	count *filter.FetchMetrics
}

func newAgent(t testing.TB, url string, more ...func(*filter.FetchConfig)) *agent {
	t.Helper()
	a := &agent{dir: t.TempDir(), count: &filter.FetchMetrics{}}
	a.set = openSet(t, a.dir)
	cfg := filter.FetchConfig{URL: url, Set: a.set, Rate: 1 << 30, Metrics: a.count, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, m := range more {
		m(&cfg)
	}
	var err error
	if a.Fetcher, err = filter.NewFetcher(cfg); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *agent) fetch(t testing.TB) {
	t.Helper()
	if err := a.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAnAgentFetchesWhatIsNew(t *testing.T) {
	codes, others := some(20_000, 10)
	x, b, set, _ := making(t, codes, 4000)
	a := newAgent(t, door(t, set, nil))
	wantAll(t, a.set, codes[:10], filter.Unknown)
	a.fetch(t)
	wantAll(t, a.set, codes, filter.Perhaps)
	first := a.count.Snapshot()
	if first.Parts != 5 || first.Codes != int64(len(codes)) || !first.AsOf.Equal(noon) {
		t.Errorf("got %+v, want five parts", first)
	}
	a.fetch(t)
	if again := a.count.Snapshot(); again.Bytes != first.Bytes {
		t.Errorf("nothing is new: got %d bytes more, want none", again.Bytes-first.Bytes)
	}
	x.set(sorted(append(others[:20:20], codes...)))
	build(t, b)
	a.fetch(t)
	wantAll(t, a.set, x.codes, filter.Perhaps)
	if last := a.count.Snapshot(); last.Parts != 6 {
		t.Errorf("twenty codes are new: got %d parts, want one", last.Parts-first.Parts)
	}
	// Another life: what is on disk serves, without a gate.
	if err := a.set.Close(); err != nil {
		t.Fatal(err)
	}
	wantAll(t, openSet(t, a.dir), x.codes, filter.Perhaps)
}

func TestAPartThatIsBrokenOffIsGoneOnWith(t *testing.T) {
	codes, _ := some(100_000, 11)
	_, _, set, _ := making(t, codes, 0)
	w := startWire(t, strings.TrimPrefix(door(t, set, nil), "http://"))
	a := newAgent(t, w.url)
	w.left.Store(60_000)
	if err := a.Fetch(t.Context()); err == nil {
		t.Fatal("the wire was cut and nobody noticed")
	}
	wantAll(t, a.set, codes[:10], filter.Unknown)
	w.left.Store(-1)
	a.fetch(t)
	wantAll(t, a.set, codes, filter.Perhaps)
	if c := a.count.Snapshot(); c.Resumed != 1 || c.Bytes != uint64(set.Current().Bytes) {
		t.Errorf("got %d resumed and %d bytes, want one part, of which no byte came twice (%d)", c.Resumed, c.Bytes, set.Current().Bytes)
	}
}

func TestAHalfPartThatIsDamagedIsThrownAway(t *testing.T) {
	codes, _ := some(1000, 12)
	_, _, set, _ := making(t, codes, 0)
	a := newAgent(t, door(t, set, nil))
	half := a.dir + "/half-" + set.Current().Layers[0].Parts[0].Name
	if err := os.WriteFile(half, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Fetch(t.Context()); err == nil || a.set.Current() != nil {
		t.Errorf("got %v and %v, want an error and no filter", err, a.set.Current())
	}
	a.fetch(t)
	wantAll(t, a.set, codes, filter.Perhaps)
	if c := a.count.Snapshot(); c.Damaged != 1 || c.Failed != 1 {
		t.Errorf("got %+v, want one damaged", c)
	}
}

// changing is a filter of which two newer versions are made when a part is asked for.
type changing struct {
	*filter.Set
	then atomic.Pointer[func()]
}

func (c *changing) Part(name string) (*os.File, error) {
	if then := c.then.Swap(nil); then != nil {
		(*then)()
	}
	return c.Set.Part(name)
}

func TestTheVersionChangesWhileItIsFetched(t *testing.T) {
	codes, others := some(3000, 13)
	x, b, set, _ := making(t, codes, 500)
	c := &changing{Set: set}
	then := func() {
		for _, more := range [][]uint64{others[:1500], others[1500:]} {
			x.set(sorted(append(slices.Clone(x.codes), more...)))
			build(t, b)
		}
	}
	c.then.Store(&then)
	a := newAgent(t, door(t, c, nil))
	a.fetch(t)
	wantAll(t, a.set, append(codes, others...), filter.Perhaps)
	if got, want := a.set.Current().Version, set.Current().Version; got != want {
		t.Errorf("got version %s, want %s", got, want)
	}
}

func TestARevokedCredentialFetchesNothingAndKeepsWhatIsThere(t *testing.T) {
	codes, others := some(1000, 14)
	x, b, set, _ := making(t, codes, 0)
	var who holders
	who.tokens.Store("TOKEN", true)
	token := "TOKEN"
	a := newAgent(t, door(t, set, &who), func(cfg *filter.FetchConfig) {
		cfg.Token = func() (string, error) { return token, nil }
	})
	a.fetch(t)
	who.tokens.Delete("TOKEN")
	x.set(sorted(append(others, codes...)))
	build(t, b)
	if err := a.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "revoked") || strings.Contains(err.Error(), token) {
		t.Errorf("got %v, want that the credential is refused", err)
	}
	wantAll(t, a.set, codes, filter.Perhaps)
	// Another one is in the file now.
	who.tokens.Store("OTHER", true)
	token = "OTHER"
	a.fetch(t)
	wantAll(t, a.set, x.codes, filter.Perhaps)
}

func TestADamagedPartSaysNothingAndIsFetchedAgain(t *testing.T) {
	codes, _ := some(1000, 15)
	_, _, set, _ := making(t, codes, 100)
	a := newAgent(t, door(t, set, nil), func(cfg *filter.FetchConfig) { cfg.Every = time.Hour })
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	whole := func() bool { return count(a.set, codes, filter.Perhaps) == len(codes) }
	enginetest.Eventually(t, "it is fetched", whole)
	for name, harm := range map[string]func(path string){
		"flipped": func(path string) { flip(t, path) },
		"torn":    func(path string) { _ = os.Truncate(path, 50) },
		"gone":    func(path string) { _ = os.Remove(path) },
	} {
		for _, path := range files(t, a.dir) {
			harm(path)
		}
		answers, _ := a.set.Find(codes[:1])
		if answers[0] == filter.Absent {
			t.Errorf("%s: a settled code is answered as absent", name)
		}
		enginetest.Eventually(t, "it is fetched again, "+name, whole)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run ended with %v, want nil", err)
	}
}

func TestAFilterThatIsTooLargeIsNotFetched(t *testing.T) {
	codes, _ := some(1000, 16)
	_, _, set, _ := making(t, codes, 0)
	a := newAgent(t, door(t, set, nil), func(cfg *filter.FetchConfig) { cfg.MaxBytes = 500 })
	if err := a.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "500") || len(files(t, a.dir)) > 0 {
		t.Errorf("got %v and %d files, want an error and none", err, len(files(t, a.dir)))
	}
}

// A busy till goes first, and is not waited for forever.
func TestFetchingWaitsForAQuietTill(t *testing.T) {
	codes, _ := some(1000, 17)
	_, _, set, _ := making(t, codes, 0)
	var asked atomic.Int64
	a := newAgent(t, door(t, set, nil), func(cfg *filter.FetchConfig) {
		cfg.Idle = func() bool { return asked.Add(1) > 3 }
	})
	a.fetch(t)
	if got := asked.Load(); got != 4 {
		t.Errorf("got %d looks at the till, want 4", got)
	}
	wantAll(t, a.set, codes, filter.Perhaps)
}

func TestAManifestThatContradictsItselfIsRefused(t *testing.T) {
	const good = `{"version":"1","made":"2026-06-01T10:00:00Z","as_of":"2026-06-01T10:00:00Z","up_to":1,"of":"01","codes":2,"bytes":40,"layers":[{"bits":8,"parts":[{"part":"00112233445566aa","from":"0","codes":1,"bytes":20},{"part":"00112233445566ab","from":"5","codes":1,"bytes":20}]}]}`
	if _, err := filter.ParseManifest([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"no JSON":                {`{"version"`, `{"version`},
		"a name that is a path":  {"00112233445566aa", "../../../../pas"},
		"no part for low codes":  {`"from":"0"`, `"from":"1"`},
		"parts in no order":      {`"from":"5"`, `"from":"0"`},
		"a part without bytes":   {`"codes":1,"bytes":20}]`, `"codes":1,"bytes":0}]`},
		"another number of bits": {`"bits":8`, `"bits":9`},
		"a sum that is wrong":    {`"bytes":40`, `"bytes":41`},
		"no moment":              {`"as_of":"2026-06-01T10:00:00Z",`, ``},
		"no layers":              {`"codes":2,"bytes":40`, `"codes":0,"bytes":0,"layers":[],"x":1`},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if name == "no layers" {
			text = text[:strings.Index(text, `,"x"`)] + "}"
		}
		if text == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := filter.ParseManifest([]byte(text)); err == nil {
			t.Errorf("%s: taken, want it refused: %s", name, text)
		}
	}
}
