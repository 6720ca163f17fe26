package check_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"yaosu/gate/check"
	"yaosu/gate/filter"
	"yaosu/internal/plain"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

// settled is what a checker knows to be settled.
func settled(t interface{ Fatal(...any) }, c *check.Checker) (codes []uint64) {
	in, err := c.Settled(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for code, err := range in.Codes {
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
	}
	return codes
}

// TestWhatIsSettledIsWhatThePlainReaderFinds is the law of Settled: over towns without
// sense it gives each code with an effective sale of the plain reader, once and in order.
func TestWhatIsSettledIsWhatThePlainReaderFinds(t *testing.T) {
	dir, key := t.TempDir(), testKey(t)
	rooms, undone := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		scans := town.Chaos(rapid.Uint64().Draw(t, "seed"), rapid.SampledFrom([]int{0, 5, 60, 300}).Draw(t, "events"))
		inOrderOfHash(scans)
		numbers := map[string]uint64{}
		for _, s := range scans {
			for _, raw := range s.Codes {
				code := schema.NewClassifier(nil).Classify(raw, s.Drug)
				numbers[code.Key] = code.Number()
			}
		}
		var want []uint64
		for _, s := range plain.Read(scans, plain.Defaults()).Sales {
			if s.Effective() {
				want = append(want, numbers[s.Code])
			} else if s.Item && s.Insured {
				undone++
			}
		}
		slices.Sort(want)
		want = slices.Compact(want)

		shuffled := scans
		if len(scans) > 0 && rapid.Bool().Draw(t, "shuffled") {
			shuffled = rapid.Permutation(scans).Draw(t, "order")
		}
		rooms++
		room := filepath.Join(dir, strconv.Itoa(rooms))
		if err := os.Mkdir(room, 0o700); err != nil {
			t.Fatal(err)
		}
		c, err := check.Over(room, key, nil, slices.Values(shuffled), rapid.SampledFrom([]int{7, 40, 1000}).Draw(t, "limit"), now)
		if err != nil {
			t.Fatal(err)
		}
		if got := settled(t, c); !slices.Equal(got, want) {
			t.Errorf("got %d, want %d", got, want)
		}
	})
	if undone == 0 {
		t.Error("no sale of any town was undone: the law was not put to the test")
	}
}

// A page that is damaged ends the walk with an error: half of what is settled would
// be taken for all of it.
func TestADamagedIndexGivesNoHalfAnswer(t *testing.T) {
	dir := t.TempDir()
	c, err := check.Over(dir, testKey(t), nil, boxes(2000), 500, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(settled(t, c)); got != 2000 {
		t.Fatalf("got %d codes, want 2000", got)
	}
	runs, err := filepath.Glob(filepath.Join(dir, "run-*"))
	if err != nil || len(runs) == 0 {
		t.Fatalf("got %d runs, %v", len(runs), err)
	}
	file, err := os.OpenFile(runs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{0xff, 0xff}, 4096+100); err != nil {
		t.Fatal(err)
	}
	in, err := c.Settled(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	for _, err := range in.Codes {
		failed = err
	}
	if failed == nil {
		t.Error("all went well, want an error at the end")
	}
	set, err := filter.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := filter.NewBuilder(filter.Config{Source: c, Set: set})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Build(t.Context()); err == nil || set.Current() != nil {
		t.Errorf("a filter was made of it: %v, %v", err, set.Current())
	}
}
