package filter_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"yaosu/gate/filter"
)

// TestWhatIsSettledIsFound is the law: whatever came and went between the versions,
// and whatever became of the files, each settled code is found in the newest version,
// and nearly no other.
func TestWhatIsSettledIsFound(t *testing.T) {
	dir := t.TempDir()
	rooms, asked, false_ := 0, 0, 0
	resumed, layered := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		rooms++
		room := filepath.Join(dir, strings.Repeat("x", rooms%50+1))
		if err := os.RemoveAll(room); err != nil {
			t.Fatal(err)
		}
		set, err := filter.Open(room)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = set.Close() }()
		x := &index{asOf: noon}
		max := rapid.SampledFrom([]int{3, 64, 1000}).Draw(t, "part")
		known := map[uint64]bool{}
		many, _ := some(rapid.SampledFrom([]int{0, 50, 300}).Draw(t, "at first"), 5)
		for _, code := range many {
			known[code] = true
		}
		// Close to each other, as serials are, and at both ends.
		codes := rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64Range(1<<40, 1<<40+300), rapid.Uint64(), rapid.Just(^uint64(0)))
		newBuilder := func() *filter.Builder {
			b, err := filter.NewBuilder(filter.Config{Source: x, Set: set, PartCodes: max})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := newBuilder()
		for range rapid.IntRange(1, 8).Draw(t, "versions") {
			most := rapid.SampledFrom([]int{2, 100}).Draw(t, "most")
			for _, code := range rapid.SliceOfN(codes, 0, most).Draw(t, "settled") {
				known[code] = true
			}
			codes := slices.Sorted(maps.Keys(known))
			if len(codes) > 0 {
				for _, code := range rapid.SliceOfN(rapid.SampledFrom(codes), 0, most/10).Draw(t, "undone") {
					delete(known, code)
				}
			}
			switch rapid.IntRange(0, 9).Draw(t, "meanwhile") {
			case 0: // another life
				if err := set.Close(); err != nil {
					t.Fatal(err)
				}
				if set, err = filter.Open(room); err != nil {
					t.Fatal(err)
				}
				b = newBuilder()
				resumed++
			case 1: // a file was torn
				if list := parts(t, room); len(list) > 0 {
					if err := os.Truncate(rapid.SampledFrom(list).Draw(t, "torn"), 20); err != nil {
						t.Fatal(err)
					}
				}
			case 2: // another table
				x.of++
			}
			codes = slices.Sorted(maps.Keys(known))
			x.set(codes)
			if err := b.Build(t.Context()); err != nil {
				t.Fatal(err)
			}
			answers, asOf := set.Find(codes)
			for i, a := range answers {
				if a != filter.Perhaps {
					t.Errorf("%x: got %d, want it found among %x", codes[i], a, codes)
				}
			}
			if !asOf.Equal(noon) {
				t.Errorf("as of: got %s, want %s", asOf, noon)
			}
			text, _ := set.Manifest()
			m, err := filter.ParseManifest(text)
			if err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			if len(m.Layers) > 1 {
				layered++
			}
			others := rapid.SliceOfN(rapid.Uint64(), 20, 20).Draw(t, "others")
			found, _ := set.Find(others)
			for i, code := range others {
				if !known[code] {
					asked++
					if found[i] != filter.Absent {
						false_++
					}
				}
			}
		}
	})
	// Small parts hold few codes, so what is said falsely is of the fingerprints alone,
	// and of codes that were undone.
	if false_*20 > asked {
		t.Errorf("%d of %d codes nobody settled were found", false_, asked)
	}
	if resumed == 0 || layered == 0 {
		t.Errorf("%d restarts, %d versions with layers: the law was not put to the test", resumed, layered)
	}
}

func parts(t *rapid.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if len(e.Name()) == 16 {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

func TestFewOtherCodesAreFound(t *testing.T) {
	codes, others := some(200_000, 1)
	_, _, set, _ := making(t, codes, 50_000)
	wantAll(t, set, codes, filter.Perhaps)
	if got := count(set, others, filter.Perhaps); got < len(others)/512 || got > len(others)/200 {
		t.Errorf("got %d of %d found that are not in it, want about one in 256", got, len(others))
	}
	if m := set.Current(); m.Codes != len(codes) || m.Bytes*100 > m.Codes*125 || len(m.Layers) != 1 || len(m.Layers[0].Parts) != 4 {
		t.Errorf("got %d codes in %d bytes and %d parts, want all in four parts and a byte and a quarter each at most", m.Codes, m.Bytes, len(m.Layers[0].Parts))
	}
}

// What changed little is a small layer; what changed much is made anew, and only that.
func TestAVersionIsMostlyTheOneBefore(t *testing.T) {
	codes, others := some(20_000, 2)
	x, b, set, _ := making(t, codes, 2000)
	first := set.Current()
	names := func(m *filter.Manifest) map[string]bool {
		all := map[string]bool{}
		for _, l := range m.Layers {
			for _, p := range l.Parts {
				all[p.Name] = true
			}
		}
		return all
	}
	news := func(a, b *filter.Manifest) (n, bytes int) {
		was := names(a)
		for _, l := range b.Layers {
			for _, p := range l.Parts {
				if !was[p.Name] {
					n, bytes = n+1, bytes+p.Bytes
				}
			}
		}
		return n, bytes
	}
	more := func(added []uint64) []uint64 {
		all := append(slices.Clone(x.codes), added...)
		slices.Sort(all)
		return all
	}
	x.set(more(others[:100]))
	build(t, b)
	second := set.Current()
	if n, bytes := news(first, second); n != 1 || bytes > 500 || len(second.Layers) != 2 {
		t.Errorf("after 100 codes: got %d new parts of %d bytes, %d layers; want one small layer", n, bytes, len(second.Layers))
	}
	x.set(more(others[100:110]))
	build(t, b)
	if third := set.Current(); len(third.Layers) != 3 {
		t.Errorf("after 10 more: got %d layers, want a smaller one on top", len(third.Layers))
	}
	x.set(more(others[110:150]))
	build(t, b)
	if fourth := set.Current(); len(fourth.Layers) != 2 {
		t.Errorf("after 40 more: got %d layers, want the upper ones as one", len(fourth.Layers))
	}
	wantAll(t, set, x.codes, filter.Perhaps)

	// One part changes much: only that one is made anew.
	before := set.Current()
	from := uint64(before.Layers[0].Parts[3].From)
	var crowd []uint64
	for i := range uint64(500) {
		crowd = append(crowd, from+i*1000+1)
	}
	x.set(more(crowd))
	build(t, b)
	if n, _ := news(before, set.Current()); n > 2 {
		t.Errorf("after a crowd in one part: got %d new parts, want that and a layer at most", n)
	}
	wantAll(t, set, x.codes, filter.Perhaps)

	// Nothing came: a newer moment, and nothing to fetch.
	before = set.Current()
	x.asOf = noon.AddDate(0, 0, 1)
	build(t, b)
	if n, _ := news(before, set.Current()); n != 0 || !set.Current().AsOf.Equal(x.asOf) {
		t.Errorf("after nothing: got %d new parts, as of %s", n, set.Current().AsOf)
	}
	// All were undone.
	x.set(nil)
	build(t, b)
	if n := count(set, codes, filter.Perhaps); n > len(codes)/100 {
		t.Errorf("after all were undone: got %d still found", n)
	}
}

// Where parts begin is seen by everybody, so it is no code that somebody sold.
func TestPartsBeginAtNoCode(t *testing.T) {
	codes, _ := some(5000, 3)
	_, _, set, _ := making(t, codes, 100)
	list := set.Current().Layers[0].Parts
	if len(list) < 50 {
		t.Fatalf("got %d parts", len(list))
	}
	for _, p := range list {
		if _, settled := slices.BinarySearch(codes, uint64(p.From)); settled {
			t.Errorf("a part begins at the settled code %x", uint64(p.From))
		}
	}
}

func TestOneDirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	first := openSet(t, dir)
	if _, err := filter.Open(dir); err == nil {
		t.Error("a second one opened it, want an error")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openSet(t, dir)
}

func TestADamagedManifestIsNone(t *testing.T) {
	codes, _ := some(100, 4)
	_, _, set, dir := making(t, codes, 0)
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "manifest"))
	again := openSet(t, dir)
	wantAll(t, again, codes, filter.Unknown)
}
