package check_test

import (
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/internal/plain"
	"yaosu/loadtest/town"
	"yaosu/schema"
)

// boxRules are the detectors whose findings about a box a sale can make.
var boxRules = []string{"reused_code_same_org", "resold_code", "cloned_code", "cash_and_insured"}

// TestACheckStopsWhatWouldBeAFinding is the law: over towns without sense, a check
// stops a sale by a rule exactly when the slow plain reader, given the town with and
// without that sale, finds by that rule what it did not find before.
func TestACheckStopsWhatWouldBeAFinding(t *testing.T) {
	dir := t.TempDir()
	if err := town.ChaosReference().Write(dir); err != nil {
		t.Fatal(err)
	}
	ref, err := plain.LoadReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := testKey(t)
	stops := map[string]int{}
	passes, rooms := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		scans := town.Chaos(rapid.Uint64().Draw(t, "seed"), rapid.SampledFrom([]int{5, 20, 60, 150}).Draw(t, "events"))
		inOrderOfHash(scans)
		sale := drawSale(t, scans)
		// Software that tries again stamps what it sends anew: that is no other event,
		// and stands after a void of what it sent before.
		for _, scan := range slices.Clone(scans) {
			touches := slices.ContainsFunc(scan.Codes, func(code string) bool { return slices.Contains(sale.Codes, code) })
			if later := rapid.SampledFrom([]time.Duration{0, time.Minute, 24 * time.Hour, 240 * time.Hour}); touches && rapid.Bool().Draw(t, "sent again") {
				if scan.Sent.IsZero() {
					scan.Sent = scan.Time
				}
				scan.Sent = scan.Sent.Add(later.Draw(t, "later"))
				scans = append(scans, scan)
			}
		}
		before, after := find(scans, ref), find(append(slices.Clone(scans), sale), ref)

		shuffled := slices.Clone(scans)
		if rapid.Bool().Draw(t, "shuffled") {
			shuffled = rapid.Permutation(scans).Draw(t, "order")
		}
		again := rapid.IntRange(0, len(scans)).Draw(t, "delivered again")
		rooms++
		room := filepath.Join(dir, strconv.Itoa(rooms))
		if err := os.Mkdir(room, 0o700); err != nil {
			t.Fatal(err)
		}
		checker, err := check.Over(room, key, packsOf(ref), slices.Values(append(shuffled, scans[:again]...)), rapid.SampledFrom([]int{7, 40, 1000}).Draw(t, "limit"), sale.Time)
		if err != nil {
			t.Fatal(err)
		}
		q := gate.CheckRequest{Codes: sale.Codes, Org: sale.Org, Region: sale.Region, Person: sale.Person, Settlement: sale.Settlement, Drug: sale.Drug, Split: sale.Split}
		if sale.Quantity.Known {
			quantity := sale.Quantity.Float()
			q.Quantity = &quantity
		}
		reply, err := checker.Check(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, answer := range reply.Codes {
			code := schema.NewClassifier(nil).Classify(answer.Code, sale.Drug)
			if !code.Item() {
				continue
			}
			for _, rule := range boxRules {
				got := slices.ContainsFunc(answer.Reasons, func(r gate.Reason) bool { return r.Rule == rule })
				want := after.newly(before, rule, code.Key)
				if got != want {
					t.Errorf("%s of %s: got %t, want %t\nbefore %v\nafter %v\nasked %+v", rule, code.Key, got, want, before.evidence[rule][code.Key], after.evidence[rule][code.Key], sale)
				}
				if got {
					stops[rule]++
				}
			}
			if answer.Decision == gate.Pass {
				passes++
			}
		}
	})
	for _, rule := range boxRules {
		if stops[rule] == 0 {
			t.Errorf("no town had a stop by %s: the law was not put to the test", rule)
		}
	}
	if passes == 0 {
		t.Error("nothing ever passed: the law was not put to the test")
	}
}

// inOrderOfHash renames events so that the order of their ids is that of their
// hashes: the check keeps no ids, and orders uploads of one moment by hash.
func inOrderOfHash(scans []schema.Scan) {
	ids := map[string]string{}
	for _, s := range scans {
		ids[s.EventID], ids[s.Reverses] = "", ""
	}
	delete(ids, "")
	sorted := slices.Sorted(maps.Keys(ids))
	for i, id := range sorted {
		least, most := uint64(i)<<40/uint64(len(sorted)), uint64(i+1)<<40/uint64(len(sorted))
		for salt := 0; ids[id] == ""; salt++ {
			name := fmt.Sprintf("%05d-%d", i, salt)
			if hash := check.Name(name); hash >= least && hash < most {
				ids[id] = name
			}
		}
	}
	for i := range scans {
		scans[i].EventID, scans[i].Reverses = ids[scans[i].EventID], ids[scans[i].Reverses]
	}
}

// drawSale is a sale that somebody asks about. Its id is before all others of the
// town, as that of a sale without one is for the check.
func drawSale(t *rapid.T, scans []schema.Scan) schema.Scan {
	var codes []string
	times := []time.Time{time.Date(2026, 9, 1, 12, 0, 0, 0, schema.Shanghai)}
	for _, s := range scans {
		codes = append(codes, s.Codes...)
		times = append(times, s.Time, s.Time.Add(time.Second))
	}
	codes = append(codes, "81000010000000000009")
	slices.Sort(codes)
	codes = slices.Compact(codes)
	sale := schema.Scan{
		EventID: "!",
		Kind:    schema.Sale,
		// Most ask after all that happened; the clock of a shop may be late.
		Time:       rapid.OneOf(rapid.Just(times[0]), rapid.SampledFrom(times)).Draw(t, "time"),
		Org:        rapid.SampledFrom([]string{"A", "B", "C", "D", "E"}).Draw(t, "org"),
		Region:     "110105",
		Codes:      rapid.SliceOfNDistinct(rapid.SampledFrom(codes), 1, 3, rapid.ID[string]).Draw(t, "codes"),
		Drug:       rapid.SampledFrom([]string{"", "X1", "X2", "X3"}).Draw(t, "drug"),
		Pay:        schema.PayInsured,
		Settlement: rapid.SampledFrom([]string{"", "S1", "S2", "S3", "new"}).Draw(t, "settlement"),
		Person:     rapid.SampledFrom([]string{"", "P1", "P2"}).Draw(t, "person"),
		Split:      rapid.Bool().Draw(t, "split"),
	}
	if n := rapid.SampledFrom([]int64{0, 1, 2, 3, 5, 9}).Draw(t, "quantity"); n > 0 {
		sale.Quantity = schema.Whole(n)
	}
	return sale
}

func packsOf(ref plain.Reference) map[string]check.Pack {
	float := func(r *big.Rat) float64 {
		if r == nil {
			return 0
		}
		f, _ := r.Float64()
		return f
	}
	packs := map[string]check.Pack{}
	for product, d := range ref.Drugs {
		p := check.Pack{Drug: d.Drug, Larger: !d.Smallest()}
		if !p.Larger {
			p.Units = float(d.PackUnits)
		} else {
			p.Holds = float(d.PackUnits)
			for _, other := range ref.Drugs {
				if other.Drug == d.Drug && other.Smallest() {
					p.Units = max(p.Units, float(other.PackUnits))
				}
			}
		}
		packs[product] = p
	}
	return packs
}

// findings are what the plain reader finds, and by what evidence: the sales that
// count, which it does not tell.
type findings struct {
	entities map[string][]string
	evidence map[string]map[string][]string // rule, key: sales or pairs of them
}

func find(scans []schema.Scan, ref plain.Reference) findings {
	f := findings{plain.Find(scans, ref, plain.Defaults()), map[string]map[string][]string{}}
	add := func(rule, key, what string) {
		if f.evidence[rule] == nil {
			f.evidence[rule] = map[string][]string{}
		}
		f.evidence[rule][key] = append(f.evidence[rule][key], what)
	}
	split := map[string]bool{}
	for _, s := range scans {
		split[s.Org+s.EventID+s.Time.String()] = s.Split
	}
	name := func(s *plain.Sale) string { return s.Org + "/" + s.EventID + "/" + s.Time.UTC().String() }
	last := map[string]*plain.Sale{}
	for _, s := range plain.Read(scans, plain.Defaults()).Sales {
		if !s.Item || s.Undone {
			continue
		}
		if !split[s.Org+s.EventID+s.Time.String()] {
			add("cash_and_insured", s.Code, name(s))
		}
		if !s.Insured {
			continue
		}
		add("reused_code_same_org", s.Org+"/"+s.Code, name(s))
		if before := last[s.Code]; before != nil && before.Org != s.Org {
			rule := "resold_code"
			if s.Time.Sub(before.Time) <= 72*time.Hour {
				rule = "cloned_code"
			}
			add(rule, s.Code, name(before)+" "+name(s))
		}
		last[s.Code] = s
	}
	return f
}

// newly tells whether f has a finding of the rule about the code that before has
// not, or not with that evidence.
func (f findings) newly(before findings, rule, key string) bool {
	for _, entity := range f.entities[rule] {
		if entity != key && !strings.HasSuffix(entity, "/"+key) {
			continue
		}
		if !slices.Contains(before.entities[rule], entity) {
			return true
		}
		was, is := before.evidence[rule][entity], f.evidence[rule][entity]
		if strings.HasPrefix(rule, "c") && rule != "cash_and_insured" || rule == "resold_code" {
			if slices.ContainsFunc(is, func(pair string) bool { return !slices.Contains(was, pair) }) {
				return true
			}
		} else if !slices.Equal(was, is) {
			return true
		}
	}
	return false
}
