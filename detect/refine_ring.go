package detect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
)

const (
	shownLinks = 5  // links a sentence names, strongest first
	shownLoops = 3  // loops a sentence names
	triedLinks = 64 // loops are looked for through so many of the strongest links
)

// passage is one box that the fund paid for at one org and that turned up at
// another: one row of the query.
type passage struct {
	code, how          string
	from, to           counter
	fromEvent, toEvent string
	fromTime, toTime   time.Time
	fromPerson         string
	toPerson           string
	paid               float64
}

// counter is an org as a sentence names it.
type counter struct{ org, name, region string }

// pair is two orgs, the lesser id first.
type pair [2]string

// link is all that passed between two orgs.
type link struct {
	pair
	passages []passage
	codes    int                           // different ones, both directions together
	ways     map[[2]string]map[string]bool // from and to, to codes
	founded  time.Time                     // when the code that made it a link came over
}

// way counts the codes that went one way.
func (l *link) way(from, to string) int { return len(l.ways[[2]string{from, to}]) }

// findRings joins orgs by links of at least edges different codes each. What is
// below is neither counted nor shown.
func findRings(batches []arrow.Record, params map[string]string) ([]finding, error) {
	edges, err := whole(params, "edges")
	if err != nil {
		return nil, err
	}
	passages, err := readPassages(batches)
	if err != nil {
		return nil, err
	}
	between := map[pair][]passage{}
	names := map[string]string{}
	for _, p := range passages {
		if p.from.org == p.to.org {
			continue
		}
		ends := pair{min(p.from.org, p.to.org), max(p.from.org, p.to.org)}
		between[ends] = append(between[ends], p)
		for _, c := range []counter{p.from, p.to} {
			names[c.org] = max(names[c.org], cmp.Or(c.name, c.org))
		}
	}
	var links []*link
	for ends, passed := range between {
		if l := newLink(ends, passed, edges); l != nil {
			links = append(links, l)
		}
	}
	slices.SortFunc(links, func(a, b *link) int {
		return cmp.Or(cmp.Compare(b.codes, a.codes), slices.Compare(a.pair[:], b.pair[:]))
	})
	var found []finding
	for _, ring := range joined(links) {
		found = append(found, describeRing(ring, names))
	}
	return found, nil
}

func readPassages(batches []arrow.Record) ([]passage, error) {
	var all []passage
	for _, batch := range batches {
		f := fields{batch: batch}
		code, how := f.text("code_key"), f.text("how")
		fromOrg, fromName, fromRegion := f.text("from_org"), f.text("from_name"), f.text("from_region")
		fromEvent, fromPerson, fromTime := f.text("from_event"), f.text("from_person"), f.time("from_time")
		toOrg, toName, toRegion := f.text("to_org"), f.text("to_name"), f.text("to_region")
		toEvent, toPerson, toTime := f.text("to_event"), f.text("to_person"), f.time("to_time")
		paid := f.number("paid")
		if f.err != nil {
			return nil, f.err
		}
		for i := range int(batch.NumRows()) {
			all = append(all, passage{
				code: code.Value(i), how: how.Value(i), paid: paid.Value(i),
				from:      counter{fromOrg.Value(i), fromName.Value(i), fromRegion.Value(i)},
				to:        counter{toOrg.Value(i), toName.Value(i), toRegion.Value(i)},
				fromEvent: fromEvent.Value(i), fromPerson: fromPerson.Value(i), fromTime: timeOf(fromTime.Value(i)),
				toEvent: toEvent.Value(i), toPerson: toPerson.Value(i), toTime: timeOf(toTime.Value(i)),
			})
		}
	}
	slices.SortFunc(all, func(a, b passage) int {
		return cmp.Or(a.toTime.Compare(b.toTime), strings.Compare(a.code, b.code), a.fromTime.Compare(b.fromTime),
			strings.Compare(a.from.org, b.from.org), strings.Compare(a.to.org, b.to.org),
			strings.Compare(a.fromEvent, b.fromEvent), strings.Compare(a.toEvent, b.toEvent), strings.Compare(a.how, b.how),
			strings.Compare(a.fromPerson, b.fromPerson), strings.Compare(a.toPerson, b.toPerson), cmp.Compare(a.paid, b.paid))
	})
	return all, nil
}

// newLink returns nil for too few codes. Passages must be in order of time.
func newLink(ends pair, passages []passage, edges int) *link {
	l := &link{pair: ends, passages: passages, ways: map[[2]string]map[string]bool{}}
	codes := map[string]bool{}
	for _, p := range passages {
		way := [2]string{p.from.org, p.to.org}
		if l.ways[way] == nil {
			l.ways[way] = map[string]bool{}
		}
		l.ways[way][p.code] = true
		if !codes[p.code] {
			codes[p.code] = true
			if len(codes) == edges {
				l.founded = p.toTime
			}
		}
	}
	l.codes = len(codes)
	if l.codes < edges {
		return nil
	}
	return l
}

// joined parts links into rings, and keeps their order within each.
func joined(links []*link) [][]*link {
	parent := map[string]string{}
	var root func(org string) string
	root = func(org string) string {
		up, known := parent[org]
		if !known || up == org {
			parent[org] = org
			return org
		}
		top := root(up)
		parent[org] = top
		return top
	}
	for _, l := range links {
		parent[root(l.pair[0])] = root(l.pair[1])
	}
	rings := map[string][]*link{}
	for _, l := range links {
		of := root(l.pair[0])
		rings[of] = append(rings[of], l)
	}
	var all [][]*link
	for _, of := range slices.Sorted(maps.Keys(rings)) {
		all = append(all, rings[of])
	}
	return all
}

// describeRing makes a finding of links, strongest first. Its entity_id is the
// link that reached the threshold first.
func describeRing(links []*link, names map[string]string) finding {
	founder := slices.MinFunc(links, func(a, b *link) int {
		return cmp.Or(a.founded.Compare(b.founded), slices.Compare(a.pair[:], b.pair[:]))
	})
	f := finding{entityID: founder.pair[0] + "+" + founder.pair[1]}
	orgs, codes, regions := map[string]bool{}, map[string]bool{}, map[string]bool{}
	resold := map[proof]float64{} // what was paid again, once
	for _, l := range links {
		for _, p := range l.passages {
			orgs[p.from.org], orgs[p.to.org], codes[p.code] = true, true, true
			regions[p.from.region], regions[p.to.region] = true, true
			again := proof{p.toTime, p.to.org, p.toEvent, p.how, p.code, p.toPerson, p.to.region}
			f.evidence = append(f.evidence, proof{p.fromTime, p.from.org, p.fromEvent, "sold_first", p.code, p.fromPerson, p.from.region}, again)
			resold[again] = p.paid
		}
	}
	f.evidence = orderProofs(f.evidence)
	for _, p := range f.evidence {
		f.amount += resold[p]
	}
	f.score = float64(len(codes))

	delete(regions, "")
	var b strings.Builder
	fmt.Fprintf(&b, "%d 家机构（涉及 %d 个区县）之间有 %d 个追溯码在一家医保结算后，又在另一家再次结算或入库（%s 至 %s）：",
		len(orgs), len(regions), len(codes), f.evidence[0].time.Format(time.DateOnly), f.evidence[len(f.evidence)-1].time.Format(time.DateOnly))
	for i, l := range links {
		if i == shownLinks {
			fmt.Fprintf(&b, "等 %d 条链路", len(links))
			break
		}
		if i > 0 {
			b.WriteString("、")
		}
		from, to := l.pair[0], l.pair[1]
		if l.way(to, from) > l.way(from, to) {
			from, to = to, from
		}
		fmt.Fprintf(&b, "%s→%s %d 个", names[from], names[to], l.way(from, to))
		if back := l.way(to, from); back > 0 {
			fmt.Fprintf(&b, "（反向 %d 个）", back)
		}
	}
	if found := loops(links); len(found) > 0 {
		b.WriteString("；形成回路 ")
		for i, loop := range found {
			if i > 0 {
				b.WriteString("、")
			}
			for _, org := range loop {
				b.WriteString(names[org] + "→")
			}
			b.WriteString(names[loop[0]])
		}
	}
	f.reason = b.String()
	return f
}

// loops are ways round of at least three orgs, each org once: through each of the
// strongest links the shortest, strong links before weak ones. Two orgs that sell
// each other's boxes are a link with two directions and no loop. A loop begins
// with its least org.
func loops(links []*link) [][]string {
	strength := map[[2]string]int{}
	next := map[string][]string{}
	for _, l := range links {
		for way, codes := range l.ways {
			strength[way] = len(codes)
			next[way[0]] = append(next[way[0]], way[1])
		}
	}
	for from, to := range next {
		slices.SortFunc(to, func(a, b string) int {
			return cmp.Or(cmp.Compare(strength[[2]string{from, b}], strength[[2]string{from, a}]), strings.Compare(a, b))
		})
	}
	ways := slices.SortedFunc(maps.Keys(strength), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(strength[b], strength[a]), slices.Compare(a[:], b[:]))
	})
	var found [][]string
	for _, way := range ways[:min(len(ways), triedLinks)] {
		loop := shortest(next, way[1], way[0])
		if loop == nil {
			continue
		}
		least := slices.Index(loop, slices.Min(loop))
		loop = slices.Concat(loop[least:], loop[:least])
		if !slices.ContainsFunc(found, func(other []string) bool { return slices.Equal(other, loop) }) {
			found = append(found, loop)
		}
		if len(found) == shownLoops {
			break
		}
	}
	return found
}

// shortest is a way from one org to another over a third, nil when there is none.
func shortest(next map[string][]string, from, to string) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, org := range next[at] {
			if _, been := before[org]; been || at == from && org == to {
				continue
			}
			before[org] = at
			if org == to {
				var path []string
				for ; org != ""; org = before[org] {
					path = append(path, org)
				}
				slices.Reverse(path)
				return path
			}
			queue = append(queue, org)
		}
	}
	return nil
}
