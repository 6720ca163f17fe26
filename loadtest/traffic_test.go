package loadtest_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"yaosu/loadtest"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

func traffic(t testing.TB, cfg loadtest.TrafficConfig) *loadtest.Traffic {
	t.Helper()
	made, err := loadtest.NewTraffic(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// mixed has some of everything.
var mixed = loadtest.TrafficConfig{Seed: 41, Events: 4000, Size: town.Tiny(), Bad: 0.02, Text: true, Repeat: 0.03, Reuse: 0.01}

func TestOneConfigurationIsOneTraffic(t *testing.T) {
	all := func(cfg loadtest.TrafficConfig) (digest uint64, truth loadtest.Truth) {
		made, hash := traffic(t, cfg), xxhash.New()
		for event := range made.All() {
			_, _ = hash.Write(event.AppendJSON(nil))
		}
		return hash.Sum64(), *made.Truth()
	}
	first, truth := all(mixed)
	again, truthAgain := all(mixed)
	if first != again {
		t.Error("the events differ between two runs")
	}
	if got, want := truthAgain.Towns, truth.Towns; !slices.Equal(got, want) {
		t.Errorf("the second run has the truth %v, want %v", got, want)
	}
	other := mixed
	other.Seed = 7
	if third, _ := all(other); third == first {
		t.Error("two seeds give the same events")
	}
}

func TestTruthIsWhatAReaderFinds(t *testing.T) {
	t.Run("some of everything", func(t *testing.T) { wantTruth(t, mixed) })
	much := mixed
	much.Bad, much.Repeat, much.Reuse = 0.2, 0.2, 0.3
	t.Run("much of everything", func(t *testing.T) { wantTruth(t, much) })
}

// wantTruth reads every event and compares.
func wantTruth(t *testing.T, cfg loadtest.TrafficConfig) {
	t.Helper()
	made := traffic(t, cfg)
	classify := schema.NewClassifier(nil)
	rejected := map[string]int{}
	contents, ids := map[string]bool{}, map[string]bool{}
	var got loadtest.Truth
	for event := range made.All() {
		got.Events++
		line := event.AppendJSON(nil)
		var scan schema.Scan
		refusal := scan.DecodeJSON(line)
		if refusal != nil {
			rejected[refusal.Code]++
			if refusal.Code != event.Bad {
				t.Fatalf("%s is refused as %s, want %q", line, refusal.Code, event.Bad)
			}
			continue
		}
		if event.Bad != "" {
			t.Fatalf("%s is taken, want it refused as %s", line, event.Bad)
		}
		region, org := event.Origin()
		if region != scan.Region || org != scan.Org {
			t.Fatalf("got origin %s, %s of %s", region, org, line)
		}
		decoded := event.Scan()
		if again := decoded.AppendJSON(nil); !bytes.Equal(again, line) {
			t.Fatalf("as a scan the event is another:\n got %s\nwant %s", again, line)
		}
		rows, boxes := classify.Items(nil, scan.Codes, scan.Drug)
		n := max(1, len(rows))
		if contents[string(line)] {
			got.Repeats++
			got.RepeatRows += n
			continue
		}
		contents[string(line)] = true
		if id := scan.Org + "/" + scan.EventID; ids[id] {
			got.Reused++
		} else {
			ids[id] = true
		}
		full := scan.Defaults(boxes)
		got.Distinct++
		got.Rows += n
		got.Sums.Quantity += int64(n) * full.Quantity.Micro
		got.Sums.Price += int64(n) * full.Price.Micro
	}
	want := made.Truth()
	if got.Events != want.Events || got.Distinct != want.Distinct || got.Reused != want.Reused || got.Rows != want.Rows ||
		got.Repeats != want.Repeats || got.RepeatRows != want.RepeatRows || got.Sums != want.Sums || !maps.Equal(rejected, want.Rejected) {
		t.Errorf("the events say\n%+v, refused %v\nthe truth says\n%+v", got, rejected, *want)
	}
	if want.Events != cfg.Events {
		t.Errorf("got %d events, want %d", want.Events, cfg.Events)
	}
	for name, n := range map[string]int{"reused": want.Reused, "repeated": want.Repeats, "bad": want.Bad(), "kinds of bad": len(want.Rejected) / 7} {
		if n == 0 {
			t.Errorf("got no %s events", name)
		}
	}
}

func TestTownsShareNothing(t *testing.T) {
	made := traffic(t, loadtest.TrafficConfig{Seed: 99_998, Events: 7000, Size: town.Tiny(), Whole: true})
	classify := schema.NewClassifier(nil)
	owner := map[string]string{} // what must belong to one town
	claim := func(mark, kind, value string) {
		if value == "" {
			return
		}
		if had, ok := owner[kind+value]; ok && had != mark {
			t.Fatalf("%s %s is in town %s and %s", kind, value, had, mark)
		}
		owner[kind+value] = mark
	}
	for event := range made.All() {
		scan := event.Scan()
		mark := scan.Org[len(scan.Org)-5:]
		claim(mark, "org ", scan.Org)
		claim(mark, "person ", scan.Person)
		claim(mark, "event ", scan.EventID)
		claim(mark, "settlement ", scan.Settlement)
		for _, raw := range scan.Codes {
			if code := classify.Classify(raw, scan.Drug); code.Item() {
				claim(mark, "code ", code.Key)
			} else if code.Scheme == schema.SchemeInvalid {
				t.Errorf("the code %q is invalid", raw)
			}
		}
	}
	truth := made.Truth()
	var numbers []uint64
	for _, one := range truth.Towns {
		numbers = append(numbers, one.Number)
		if !one.Complete {
			t.Errorf("town %d is not complete", one.Number)
		}
	}
	if len(numbers) < 5 || !slices.Equal(numbers[:3], []uint64{99_998, 99_999, 0}) {
		t.Errorf("got the towns %v, want them to follow each other and to begin anew", numbers)
	}
	// What is planted names what the events name.
	for detector, entities := range made.Planted() {
		if len(entities) < len(numbers) {
			t.Errorf("%s: got %d planted in %d towns", detector, len(entities), len(numbers))
		}
		if detector == "resold_code" {
			for _, code := range entities {
				if owner["code "+code] == "" {
					t.Errorf("%s: no event has the planted code %s", detector, code)
				}
			}
		}
	}
	orgs := made.Reference()["orgs"]
	for _, row := range orgs[1:] {
		if len(row[0]) < 5 || owner["org "+row[0]] == "" && len(orgs) < 3 {
			t.Errorf("no event is from the institution %s", row[0])
		}
	}
	want := 1
	for _, number := range numbers {
		// A town is a copy of one of four.
		want += len(town.Make(number%4+1, town.Tiny()).Reference["orgs"]) - 1
	}
	if len(orgs) != want {
		t.Errorf("got %d lines of institutions, want %d", len(orgs), want)
	}
	if len(made.Accused()) == 0 {
		t.Error("nobody honest is accused in any town")
	}
}

func BenchmarkTraffic(b *testing.B) {
	for name, use := range map[string]func(*loadtest.Event, []byte) []byte{
		"json":  func(e *loadtest.Event, buf []byte) []byte { return e.AppendJSON(buf[:0]) },
		"scans": func(e *loadtest.Event, buf []byte) []byte { _ = e.Scan(); return buf },
	} {
		b.Run(name, func(b *testing.B) {
			made := traffic(b, loadtest.TrafficConfig{Events: max(b.N, 1)})
			b.ResetTimer()
			var buf []byte
			for event := range made.All() {
				buf = use(event, buf)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
