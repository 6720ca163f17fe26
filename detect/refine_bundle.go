package detect

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"yaosu/schema"
)

// What one cluster of persons may cost. A cluster beyond is left unjudged; the
// others are not.
const (
	maxBundleSteps = 20_000_000 // comparisons of two sets
	maxBundleSets  = 100_000    // sets held at once
)

// visit is one sale, for one code: one row of the query.
type visit struct {
	org, name, device     string
	time                  time.Time
	event, code           string
	person, house, region string
	paid                  float64
	who                   int32 // number of person
}

// meeting is what happened at one device on one date, in order of time.
type meeting struct {
	date   string
	visits []visit
}

// bundler finds bundles among the visits of all devices. Persons are numbers, in
// the order of their names.
type bundler struct {
	size, days int
	within     time.Duration
	steps      int // maxBundleSteps, less in tests
	persons    []string
	houses     []string // by person: the household, or the person where there is none
	meetings   []meeting
	at         [][]int32 // by person: the meetings they were at, in order
}

func findBundles(batches []arrow.Record, params map[string]string) ([]finding, error) {
	b := bundler{steps: maxBundleSteps}
	var err error
	if b.size, err = whole(params, "size"); err != nil {
		return nil, err
	}
	if b.days, err = whole(params, "days"); err != nil {
		return nil, err
	}
	minutes, err := whole(params, "minutes")
	if err != nil {
		return nil, err
	}
	b.within = time.Duration(minutes) * time.Minute
	return b.find(batches)
}

// find works cluster by cluster: a bundle lies within one. Most visits are of
// persons in none, so only those of the others are read in full.
func (b *bundler) find(batches []arrow.Record) ([]finding, error) {
	clusters, err := b.clusters(batches)
	if err != nil {
		return nil, err
	}
	members := map[string]int32{}
	for _, cluster := range clusters {
		for _, person := range cluster {
			members[person] = 0
		}
	}
	visits, err := readVisits(batches, members)
	if err != nil {
		return nil, err
	}
	b.add(visits, members)
	var found []finding
	left := &unjudged{members: map[string]bool{}, what: fmt.Sprintf("bundles of cards: more than %d comparisons or %d sets in a cluster", b.steps, maxBundleSets)}
	for _, cluster := range clusters {
		set := make(bundle, len(cluster))
		for i, person := range cluster {
			set[i] = members[person]
		}
		sets, ok := b.mine(set)
		if !ok {
			for _, person := range cluster {
				left.members[person] = true
			}
			continue
		}
		for _, set := range sets {
			found = append(found, b.describe(set))
		}
	}
	if len(left.members) > 0 {
		return found, left
	}
	return found, nil
}

// readVisits reads the visits of members, in order of time.
func readVisits(batches []arrow.Record, members map[string]int32) ([]visit, error) {
	var all []visit
	for _, batch := range batches {
		f := fields{batch: batch}
		org, name, device, at := f.text("org"), f.text("name"), f.text("device"), f.time("time")
		event, code, person, house := f.text("event_id"), f.text("code_key"), f.text("person"), f.text("household")
		region, paid := f.text("region"), f.number("paid")
		if f.err != nil {
			return nil, f.err
		}
		for i := range int(batch.NumRows()) {
			if _, in := members[person.Value(i)]; !in {
				continue
			}
			all = append(all, visit{
				org: org.Value(i), name: name.Value(i), device: device.Value(i), time: timeOf(at.Value(i)),
				event: event.Value(i), code: code.Value(i), person: person.Value(i), house: house.Value(i),
				region: region.Value(i), paid: paid.Value(i),
			})
		}
	}
	slices.SortFunc(all, func(a, b visit) int {
		return cmp.Or(a.time.Compare(b.time), strings.Compare(a.org, b.org), strings.Compare(a.device, b.device),
			strings.Compare(a.person, b.person), strings.Compare(a.event, b.event), strings.Compare(a.code, b.code), cmp.Compare(a.paid, b.paid))
	})
	return all, nil
}

// add numbers the persons, in the order of their names, and parts their visits,
// in order of time, by device and date.
func (b *bundler) add(visits []visit, number map[string]int32) {
	b.persons = slices.Sorted(maps.Keys(number))
	for i, person := range b.persons {
		number[person] = int32(i)
	}
	b.houses = make([]string, len(b.persons))
	b.at = make([][]int32, len(b.persons))

	type spot struct{ org, device, date string }
	known := map[spot]int{}
	for _, v := range visits {
		v.who = number[v.person]
		b.houses[v.who] = "person " + v.person
		if v.house != "" {
			b.houses[v.who] = "household " + v.house
		}
		s := spot{v.org, v.device, v.time.In(schema.Shanghai).Format(time.DateOnly)}
		i, there := known[s]
		if !there {
			i = len(b.meetings)
			known[s] = i
			b.meetings = append(b.meetings, meeting{date: s.date})
		}
		b.meetings[i].visits = append(b.meetings[i].visits, v)
	}
	slices.SortStableFunc(b.meetings, func(x, y meeting) int { return strings.Compare(x.date, y.date) })
	for i := range b.meetings {
		for _, v := range b.meetings[i].visits {
			if of := b.at[v.who]; len(of) == 0 || of[len(of)-1] != int32(i) {
				b.at[v.who] = append(of, int32(i))
			}
		}
	}
}

// shared are the meetings that at least so many of the persons were at, in order.
func (b *bundler) shared(persons bundle, least int) []int32 {
	count := map[int32]int{}
	for _, who := range persons {
		for _, i := range b.at[who] {
			count[i]++
		}
	}
	maps.DeleteFunc(count, func(_ int32, n int) bool { return n < least })
	return slices.Sorted(maps.Keys(count))
}

// windows gives, for each sale of the meeting, those who had one within d after
// it, and itself; each window as the range of its visits.
func (m *meeting) windows(d time.Duration, window func(from, to int)) {
	to := 0
	for from := range m.visits {
		for to < len(m.visits) && m.visits[to].time.Sub(m.visits[from].time) <= d {
			to++
		}
		window(from, to)
	}
}

// bundle is a set of persons, sorted.
type bundle []int32

// swipe is what of a visit decides who meets whom.
type swipe struct {
	ms        int64
	date      int32 // days since 1970
	spot, who int32 // numbers of the device and of the person, as they come
}

// aDay and eastOf are ms: Shanghai has been 8 hours ahead, summer and winter,
// since long before the first scan.
const (
	aDay   = int64(24 * time.Hour / time.Millisecond)
	eastOf = int64(8 * time.Hour / time.Millisecond)
)

func readSwipes(batches []arrow.Record) (swipes []swipe, persons []string, err error) {
	type spot struct{ org, device string }
	spots := map[spot]int32{}
	number := map[string]int32{}
	for _, batch := range batches {
		f := fields{batch: batch}
		org, device, at, person := f.text("org"), f.text("device"), f.time("time"), f.text("person")
		if f.err != nil {
			return nil, nil, f.err
		}
		for i := range int(batch.NumRows()) {
			where := spot{org.Value(i), device.Value(i)}
			s, known := spots[where]
			if !known {
				s = int32(len(spots))
				spots[where] = s
			}
			who, known := number[person.Value(i)]
			if !known {
				who = int32(len(persons))
				number[person.Value(i)] = who
				persons = append(persons, person.Value(i))
			}
			ms := int64(at.Value(i))
			swipes = append(swipes, swipe{ms, int32((ms + eastOf) / aDay), s, who})
		}
	}
	slices.SortFunc(swipes, func(a, b swipe) int {
		return cmp.Or(cmp.Compare(a.date, b.date), cmp.Compare(a.spot, b.spot), cmp.Compare(a.ms, b.ms))
	})
	return swipes, persons, nil
}

// clusters are persons joined by pairs that met on enough dates, as any two of a
// bundle did: those who could be in a bundle at all, each in one cluster.
func (b *bundler) clusters(batches []arrow.Record) ([][]string, error) {
	swipes, persons, err := readSwipes(batches)
	if err != nil {
		return nil, err
	}
	// A pair is the lesser number before the greater; it stands in met once for
	// each date.
	var met, today []uint64
	for i, one := range swipes {
		for _, other := range swipes[i+1:] {
			if other.date != one.date || other.spot != one.spot || other.ms-one.ms > b.within.Milliseconds() {
				break
			}
			if other.who != one.who {
				today = append(today, uint64(min(one.who, other.who))<<32|uint64(max(one.who, other.who)))
			}
		}
		if i+1 == len(swipes) || swipes[i+1].date != one.date {
			slices.Sort(today)
			met = append(met, slices.Compact(today)...)
			today = today[:0]
		}
	}
	slices.Sort(met)
	friends := map[int32]bundle{}
	for i, n := 0, 0; i < len(met); i++ {
		if n++; i+1 < len(met) && met[i+1] == met[i] {
			continue
		}
		if n >= b.days {
			one, other := int32(met[i]>>32), int32(met[i]&math.MaxUint32)
			friends[one] = append(friends[one], other)
			friends[other] = append(friends[other], one)
		}
		n = 0
	}
	// Who has too few friends drops out, and is one less to each of theirs.
	in := map[int32]int{} // who is left, to how many friends are
	var drop bundle
	for who, of := range friends {
		in[who] = len(of)
		if len(of)+1 < b.size {
			drop = append(drop, who)
		}
	}
	for len(drop) > 0 {
		who := drop[len(drop)-1]
		drop = drop[:len(drop)-1]
		if _, left := in[who]; !left {
			continue
		}
		delete(in, who)
		for _, friend := range friends[who] {
			if n, left := in[friend]; left {
				in[friend] = n - 1
				if n < b.size {
					drop = append(drop, friend)
				}
			}
		}
	}
	seen := map[int32]bool{}
	var all [][]string
	for _, first := range slices.Sorted(maps.Keys(in)) {
		if seen[first] {
			continue
		}
		seen[first] = true
		cluster := bundle{first}
		for i := 0; i < len(cluster); i++ {
			for _, friend := range friends[cluster[i]] {
				if _, left := in[friend]; left && !seen[friend] {
					seen[friend] = true
					cluster = append(cluster, friend)
				}
			}
		}
		names := make([]string, len(cluster))
		for i, who := range cluster {
			names[i] = persons[who]
		}
		slices.Sort(names)
		all = append(all, names)
	}
	return all, nil
}

// mine gives the largest sets of a cluster that were together on enough dates,
// and false when there is too much to compare.
//
// It goes through the dates and keeps, for each n up to days, the largest sets
// seen together on n of the dates so far: those of n-1 dates cut with the windows
// of this one. A set that lies in another is dropped at once, as whatever it is
// cut with, the other gives at least that.
func (b *bundler) mine(cluster bundle) (sets []bundle, ok bool) {
	in := map[int32]bool{}
	for _, who := range cluster {
		in[who] = true
	}
	steps := b.steps
	levels := make([]family, b.days)
	shared := b.shared(cluster, b.size)
	for len(shared) > 0 {
		date := b.meetings[shared[0]].date
		var today family
		for len(shared) > 0 && b.meetings[shared[0]].date == date {
			m := &b.meetings[shared[0]]
			shared = shared[1:]
			m.windows(b.within, func(from, to int) {
				var set bundle
				for _, v := range m.visits[from:to] {
					if in[v.who] {
						set = append(set, v.who)
					}
				}
				slices.Sort(set)
				if set = slices.Compact(set); b.enough(set) {
					today.add(set, &steps)
				}
			})
		}
		// From many dates down, so that this date counts once.
		for n := b.days - 1; n > 0; n-- {
			for _, before := range levels[n-1].sets {
				for _, now := range today.sets {
					if steps--; steps < 0 {
						return nil, false
					}
					if both := cut(before, now); b.enough(both) {
						levels[n].add(both, &steps)
					}
				}
			}
		}
		for _, now := range today.sets {
			levels[0].add(now, &steps)
		}
		for _, level := range levels {
			if steps < 0 || len(level.sets) > maxBundleSets {
				return nil, false
			}
		}
	}
	return levels[b.days-1].sets, true
}

// enough tells whether the set has the households a bundle needs.
func (b *bundler) enough(set bundle) bool {
	return len(set) >= b.size && b.households(set) >= b.size
}

func (b *bundler) households(set bundle) int {
	houses := map[string]bool{}
	for _, who := range set {
		houses[b.houses[who]] = true
	}
	return len(houses)
}

// family is sets of which none lies in another.
type family struct{ sets []bundle }

// add takes a set in, unless it lies in one that is there; those that lie in it go.
func (f *family) add(set bundle, steps *int) {
	kept := f.sets[:0]
	for i, other := range f.sets {
		if *steps--; *steps < 0 {
			f.sets = append(kept, f.sets[i:]...)
			return
		}
		if len(set) <= len(other) && len(cut(set, other)) == len(set) {
			// Nothing went so far: what lies in set would lie in other.
			return
		}
		if len(other) < len(set) && len(cut(set, other)) == len(other) {
			continue
		}
		kept = append(kept, other)
	}
	f.sets = append(kept, set)
}

// cut gives what is in both.
func cut(a, b bundle) bundle {
	var both bundle
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			both = append(both, a[i])
			i, j = i+1, j+1
		}
	}
	return both
}

// describe makes a finding of persons, sorted. The evidence is every sale of
// theirs in a window that has them all. The entity_id is a hash of those who made
// the bundle when it was found first: who is in may change later, and a
// pseudonym must be resolved where persons are.
func (b *bundler) describe(set bundle) finding {
	in := map[int32]bool{}
	persons := make([]string, len(set))
	for i, who := range set {
		in[who], persons[i] = true, b.persons[who]
	}
	sum := sha256.Sum256([]byte(strings.Join(persons, "\x00")))
	f := finding{entityID: hex.EncodeToString(sum[:8])}
	dates, devices := map[string]bool{}, map[string]int{}
	for _, i := range b.shared(set, len(set)) {
		ours := meeting{date: b.meetings[i].date}
		for _, v := range b.meetings[i].visits {
			if in[v.who] {
				ours.visits = append(ours.visits, v)
			}
		}
		proven := make([]bool, len(ours.visits))
		ours.windows(b.within, func(from, to int) {
			there := map[int32]bool{}
			for _, v := range ours.visits[from:to] {
				there[v.who] = true
			}
			if len(there) < len(persons) {
				return
			}
			for k := from; k < to; k++ {
				proven[k] = true
			}
		})
		met := false
		for k, v := range ours.visits {
			if proven[k] {
				met = true
				f.evidence = append(f.evidence, proof{v.time, v.org, v.event, "swiped", v.code, v.person, v.region})
				f.amount += v.paid
			}
		}
		if met {
			dates[ours.date] = true
			devices[cmp.Or(ours.visits[0].name, ours.visits[0].org)+"的终端 "+ours.visits[0].device]++
		}
	}
	f.evidence = orderProofs(f.evidence)
	f.score = float64(len(persons) * len(dates))
	on := slices.Sorted(maps.Keys(dates))
	where := slices.SortedFunc(maps.Keys(devices), func(x, y string) int {
		return cmp.Or(cmp.Compare(devices[y], devices[x]), strings.Compare(x, y))
	})
	const shown = 3
	places := strings.Join(where[:min(len(where), shown)], "、")
	if len(where) > shown {
		places += fmt.Sprintf("等 %d 台终端", len(where))
	}
	f.reason = fmt.Sprintf("%d 名参保人（分属 %d 户）在 %d 个不同日期（%s 至 %s）都在同一终端 %d 分钟内先后医保结算，地点为%s",
		len(persons), b.households(set), len(dates), on[0], on[len(on)-1], int(b.within.Minutes()), places)
	return f
}
