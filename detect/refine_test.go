package detect_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"pgregory.net/rapid"

	"yaosu/detect"
	"yaosu/internal/enginetest"
	"yaosu/schema"
)

// row is a row of a refined rule: texts, times and numbers by column.
type row map[string]any

// batch makes one record batch of rows, which all have the same columns.
func batch(rows ...row) arrow.Record {
	names := slices.Sorted(maps.Keys(rows[0]))
	var columns []arrow.Field
	for _, name := range names {
		field := arrow.Field{Name: name}
		switch rows[0][name].(type) {
		case time.Time:
			field.Type = &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "Asia/Shanghai"}
		case float64:
			field.Type = arrow.PrimitiveTypes.Float64
		default:
			field.Type = arrow.BinaryTypes.String
		}
		columns = append(columns, field)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(columns, nil))
	defer b.Release()
	for _, r := range rows {
		for i, name := range names {
			switch value := r[name].(type) {
			case time.Time:
				b.Field(i).(*array.TimestampBuilder).Append(arrow.Timestamp(value.UnixMilli()))
			case float64:
				b.Field(i).(*array.Float64Builder).Append(value)
			case string:
				b.Field(i).(*array.StringBuilder).Append(value)
			}
		}
	}
	return b.NewRecord()
}

// inPieces deals rows out to batches in any order.
func inPieces(t *rapid.T, rows []row) []arrow.Record {
	if len(rows) == 0 {
		return nil
	}
	rows = rapid.Permutation(rows).Draw(t, "order")
	var batches []arrow.Record
	for len(rows) > 0 {
		n := rapid.IntRange(1, len(rows)).Draw(t, "rows in a batch")
		batches = append(batches, batch(rows[:n]...))
		rows = rows[n:]
	}
	return batches
}

func groups(list []schema.Suspect, members func(schema.Suspect) []string) []string {
	var all []string
	for _, s := range list {
		all = append(all, group(members(s)))
	}
	slices.Sort(all)
	return all
}

func orgsOf(s schema.Suspect) []string    { return s.Orgs }
func personsOf(s schema.Suspect) []string { return s.Persons }

// passed is a box sold at one org and resold at another a month later.
func passed(code, from, to string, month time.Month) row {
	return row{
		"code_key": code, "how": "sold_again", "paid": 10.,
		"from_org": from, "from_name": "店" + from, "from_region": "420106", "from_event": "sold " + code, "from_person": "p1", "from_time": on(month, 1, 10),
		"to_org": to, "to_name": "", "to_region": "533524", "to_event": "resold " + code, "to_person": "p2", "to_time": on(month+1, 1, 10),
	}
}

// boxes are so many passed one way.
func boxes(n int, from, to string, month time.Month) []row {
	var rows []row
	for i := range n {
		rows = append(rows, passed(fmt.Sprintf("%s%s%d", from, to, i), from, to, month))
	}
	return rows
}

func findRings(t *testing.T, rows ...[]row) []schema.Suspect {
	t.Helper()
	found, _, err := detect.Refine("ring", []arrow.Record{batch(slices.Concat(rows...)...)}, map[string]string{"edges": "3"})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestARingSaysWhatPassedWhichWay(t *testing.T) {
	found := findRings(t, boxes(5, "A", "B", 1), boxes(2, "B", "C", 2), boxes(2, "C", "B", 2), boxes(3, "C", "A", 3), boxes(2, "C", "D", 1), boxes(3, "E", "F", 1))
	if got, want := groups(found, orgsOf), []string{"A B C", "E F"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	ring := found[slices.IndexFunc(found, func(s schema.Suspect) bool { return slices.Contains(s.Orgs, "A") })]
	if ring.Amount != 120 || ring.Score != 12 || len(ring.Codes) != 12 || len(ring.Events) != 24 || ring.EntityID != "A+B" {
		t.Errorf("got %v yuan, score %v, %d codes, %d events, entity %s, want 120 yuan, 12, 12, 24, A+B", ring.Amount, ring.Score, len(ring.Codes), len(ring.Events), ring.EntityID)
	}
	for _, says := range []string{
		"3 家机构（涉及 2 个区县）之间有 12 个追溯码", "（2026-01-01 至 2026-04-01）",
		"店A→店B 5 个、店B→店C 2 个（反向 2 个）、店C→店A 3 个", "形成回路 店A→店B→店C→店A",
	} {
		if !strings.Contains(ring.Reason, says) {
			t.Errorf("reason %s\nwant it to say %s", ring.Reason, says)
		}
	}
}

func TestTwoShopsThatSellEachOthersBoxesAreNoLoop(t *testing.T) {
	found := findRings(t, boxes(4, "A", "B", 1), boxes(4, "B", "A", 1))
	if len(found) != 1 || strings.Contains(found[0].Reason, "回路") || !strings.Contains(found[0].Reason, "店A→店B 4 个（反向 4 个）") {
		t.Errorf("got %v, want one ring with a link both ways and no loop", found)
	}
}

func TestALongRingNamesItsStrongestLinks(t *testing.T) {
	var rows []row
	for i := range 9 {
		rows = append(rows, boxes(3+i, fmt.Sprint("S", i), fmt.Sprint("S", i+1), 1)...)
	}
	found := findRings(t, rows)
	if len(found) != 1 || !strings.Contains(found[0].Reason, "：店S8→S9 11 个、店S7→店S8 10 个、") || !strings.HasSuffix(found[0].Reason, "店S4→店S5 7 个等 9 条链路") {
		t.Errorf("got %v, want the five strongest of nine links", found)
	}
}

func TestTheLinkThatWasOneFirstFoundsTheRing(t *testing.T) {
	// B+C has its third box in March, A+B in April.
	found := findRings(t, boxes(9, "A", "B", 3), boxes(3, "B", "C", 2))
	if len(found) != 1 || found[0].EntityID != "B+C" {
		t.Errorf("got %v, want one ring founded by B+C", found)
	}
}

// TestRingsAreWhatLinksJoin holds rings against a search from every org over
// random boxes, in any order and any batches.
func TestRingsAreWhatLinksJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		org := rapid.SampledFrom([]string{"A", "B", "C", "D", "E", "F"})
		codes := map[[2]string]map[string]bool{}
		var rows []row
		for range rapid.IntRange(0, 40).Draw(t, "boxes") {
			from, to := org.Draw(t, "from"), org.Draw(t, "to")
			if from == to {
				continue
			}
			code := fmt.Sprint("box", rapid.IntRange(0, 20).Draw(t, "box"))
			rows = append(rows, passed(code, from, to, time.Month(rapid.IntRange(1, 6).Draw(t, "month"))))
			for _, way := range [][2]string{{from, to}, {to, from}} {
				if codes[way] == nil {
					codes[way] = map[string]bool{}
				}
				codes[way][code] = true
			}
		}
		var want []string
		for _, first := range []string{"A", "B", "C", "D", "E", "F"} {
			reached := []string{first}
			for i := 0; i < len(reached); i++ {
				for way, passed := range codes {
					if way[0] == reached[i] && len(passed) >= 2 && !slices.Contains(reached, way[1]) {
						reached = append(reached, way[1])
					}
				}
			}
			if len(reached) > 1 && !slices.Contains(want, group(reached)) {
				want = append(want, group(reached))
			}
		}
		slices.Sort(want)
		params := map[string]string{"edges": "2"}
		found, _, err := detect.Refine("ring", inPieces(t, rows), params)
		if err != nil {
			t.Fatal(err)
		}
		if got := groups(found, orgsOf); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		again, _, err := detect.Refine("ring", inPieces(t, slices.Concat(rows, rows)), params)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(again), fmt.Sprint(found); got != want {
			t.Fatalf("in another order and twice\n got %v\nwant %v", got, want)
		}
	})
}

// swipe is a sale to a person at A/POS1 or another device.
func swipe(person, device string, at time.Time) row {
	return row{
		"org": "A", "name": "河口药店", "device": device, "time": at, "event_id": fmt.Sprint(person, at.Unix()), "code_key": "box",
		"person": person, "household": "", "region": "420106", "paid": 3.,
	}
}

func TestABundleOfManyDatesIsFoundAndOneTooBigIsLeft(t *testing.T) {
	var rows []row
	for date := range 12 {
		for i := range 8 {
			// Small bundles meet all together; the big crowd loses one each date.
			rows = append(rows, swipe(fmt.Sprint("small", i), "POS1", on(1, 1+date, 9).Add(time.Duration(i)*time.Minute)))
		}
		for i := range 20 {
			if i != date {
				rows = append(rows, swipe(fmt.Sprint("crowd", i), "POS2", on(1, 1+date, 9)))
			}
		}
	}
	found, left, err := detect.RefineBundles(400, []arrow.Record{batch(rows...)}, 5, 3, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := groups(found, personsOf), []string{"small0 small1 small2 small3 small4 small5 small6 small7"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(left) != 20 || left[0] != "crowd0" {
		t.Errorf("not judged: %v, want the crowd of 20", left)
	}
	if s := found[0]; len(s.Events) != 96 || s.Amount != 288 || !strings.Contains(s.Reason, "8 名参保人（分属 8 户）在 12 个不同日期（2026-01-01 至 2026-01-12）都在同一终端 10 分钟内先后医保结算，地点为河口药店的终端 POS1") {
		t.Errorf("got %d events, %v yuan, %s, want 96 events, 288 yuan", len(s.Events), s.Amount, s.Reason)
	}
	if found, left, _ = detect.RefineBundles(1_000_000, []arrow.Record{batch(rows...)}, 5, 3, 10*time.Minute); len(left) > 0 || len(found) != 221 {
		// Any three of the twelve dates leave out another three of the crowd.
		t.Errorf("with steps enough: got %d bundles, %v not judged, want 221 and none", len(found), left)
	}
}

// TestBundlesAreTheLargestSetsOfAll tries every set of persons there is.
func TestBundlesAreTheLargestSetsOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const persons, size, days = 7, 3, 2
		within := 10 * time.Minute
		house := make([]string, persons)
		for i := range house {
			house[i] = rapid.SampledFrom([]string{"", "", "h1", "h2"}).Draw(t, "household")
		}
		type spot struct {
			device string
			date   int
		}
		at := map[spot]map[int][]time.Duration{} // persons to times of day
		var rows []row
		for range rapid.IntRange(0, 60).Draw(t, "sales") {
			who, date := rapid.IntRange(0, persons-1).Draw(t, "person"), rapid.IntRange(1, 4).Draw(t, "date")
			device := rapid.SampledFrom([]string{"POS1", "POS1", "POS2"}).Draw(t, "device")
			of := time.Duration(rapid.SampledFrom([]int{0, 299, 300, 600, 601, 900, 1200}).Draw(t, "second")) * time.Second
			s := spot{device, date}
			if at[s] == nil {
				at[s] = map[int][]time.Duration{}
			}
			at[s][who] = append(at[s][who], of)
			r := swipe(fmt.Sprint("p", who), device, on(1, date, 9).Add(of))
			r["household"] = house[who]
			rows = append(rows, r)
		}
		together := func(set int) bool {
			dates := map[int]bool{}
			for s, sold := range at {
				for _, starts := range sold {
					for _, start := range starts {
						all := true
						for who := range persons {
							if set>>who&1 == 1 && !slices.ContainsFunc(sold[who], func(of time.Duration) bool { return of >= start && of-start <= within }) {
								all = false
							}
						}
						if all {
							dates[s.date] = true
						}
					}
				}
			}
			return len(dates) >= days
		}
		var sets []int
		for set := range 1 << persons {
			houses := map[string]bool{}
			for who := range persons {
				if set>>who&1 == 1 {
					name := house[who]
					if name == "" {
						name = fmt.Sprint("alone ", who)
					}
					houses[name] = true
				}
			}
			if len(houses) >= size && together(set) {
				sets = append(sets, set)
			}
		}
		var want []string
		for _, set := range sets {
			if slices.ContainsFunc(sets, func(other int) bool { return other != set && other&set == set }) {
				continue
			}
			var names []string
			for who := range persons {
				if set>>who&1 == 1 {
					names = append(names, fmt.Sprint("p", who))
				}
			}
			want = append(want, group(names))
		}
		slices.Sort(want)
		params := map[string]string{"size": fmt.Sprint(size), "days": fmt.Sprint(days), "minutes": "10"}
		found, _, err := detect.Refine("bundle", inPieces(t, rows), params)
		if err != nil {
			t.Fatal(err)
		}
		if got := groups(found, personsOf); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		again, _, err := detect.Refine("bundle", inPieces(t, rows), params)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(again), fmt.Sprint(found); got != want {
			t.Fatalf("in another order\n got %v\nwant %v", got, want)
		}
	})
}

func TestARefinementRefusesColumnsItDoesNotKnow(t *testing.T) {
	r := passed("box", "A", "B", 1)
	delete(r, "to_org")
	r["from_time"] = "2026-01-01"
	_, _, err := detect.Refine("ring", []arrow.Record{batch(r)}, map[string]string{"edges": "3"})
	if err == nil || !strings.Contains(err.Error(), "0 columns to_org") || !strings.Contains(err.Error(), "column from_time is utf8") {
		t.Errorf("got %v, want an error that names both columns", err)
	}
}

// ringOf is a ring not yet named, founded by its first two, or a standing one.
func ringOf(orgs ...string) schema.Suspect {
	return schema.Suspect{Detector: "ring", EntityKind: "group", EntityID: orgs[0] + "+" + orgs[1], Orgs: orgs, Status: schema.StatusOpen}
}

func standingRing(id string, opened int, orgs ...string) schema.Suspect {
	s := ringOf(orgs...)
	s.ID, s.EntityID, s.OpenedAt = id, "entity of "+id, on(1, opened, 0)
	return s
}

func explainedRing(s schema.Suspect, into string) schema.Suspect {
	s.Status, s.SupersededBy = schema.StatusExplained, into
	return s
}

func TestGroupsKeepTheirIDs(t *testing.T) {
	fresh := func(entity string) string { return schema.SuspectID("ring", "group", entity, "") }
	for _, c := range []struct {
		name      string
		before    []schema.Suspect
		now       []schema.Suspect
		want      []string // ids, in the order of now
		swallowed map[string]string
	}{
		{"a new one goes by its founders", nil, []schema.Suspect{ringOf("A", "B")}, []string{fresh("A+B")}, nil},
		{"one that grows keeps its id, whoever founds it now", []schema.Suspect{standingRing("x", 1, "B", "C")}, []schema.Suspect{ringOf("A", "B", "C")}, []string{"x"}, nil},
		{"one that shrinks keeps its id", []schema.Suspect{standingRing("x", 1, "A", "B", "C")}, []schema.Suspect{ringOf("B", "C")}, []string{"x"}, nil},
		{
			"of two that merge the larger keeps its id, and the other says so",
			[]schema.Suspect{standingRing("x", 1, "A", "B"), standingRing("y", 2, "C", "D", "E")},
			[]schema.Suspect{ringOf("A", "B", "C", "D", "E")}, []string{"y"}, map[string]string{"x": "y"},
		},
		{
			"of two alike that merge the older keeps its id",
			[]schema.Suspect{standingRing("x", 2, "A", "B"), standingRing("y", 1, "C", "D")},
			[]schema.Suspect{ringOf("A", "B", "C", "D")}, []string{"y"}, map[string]string{"x": "y"},
		},
		{
			"of one that falls apart the larger part keeps the id",
			[]schema.Suspect{standingRing("x", 1, "A", "B", "C", "D", "E")},
			[]schema.Suspect{ringOf("A", "B"), ringOf("C", "D", "E")}, []string{fresh("A+B"), "x"}, nil,
		},
		{
			"the founders' id is not given twice",
			[]schema.Suspect{standingRing(fresh("A+B"), 1, "A", "B", "C", "D", "E")},
			[]schema.Suspect{ringOf("A", "B"), ringOf("C", "D", "E")}, []string{fresh("A+B~2"), fresh("A+B")}, nil,
		},
		{"one member alone makes no kin of four", []schema.Suspect{standingRing("x", 1, "A", "B", "C", "D")}, []schema.Suspect{ringOf("D", "E", "F", "G")}, []string{fresh("D+E")}, nil},
		{
			"an open one comes before one that was explained",
			[]schema.Suspect{explainedRing(standingRing("x", 1, "A", "B", "C"), ""), standingRing("y", 2, "A", "B")},
			[]schema.Suspect{ringOf("A", "B", "C")}, []string{"y"}, map[string]string{"x": "y"},
		},
		{"one that was explained comes back", []schema.Suspect{explainedRing(standingRing("x", 1, "A", "B"), "")}, []schema.Suspect{ringOf("A", "B", "C")}, []string{"x"}, nil},
		{
			"what went into another does not come back with its members",
			[]schema.Suspect{explainedRing(standingRing("x", 1, "A", "B"), "y"), standingRing("y", 2, "A", "B", "C")},
			[]schema.Suspect{ringOf("A", "B", "C", "D")}, []string{"y"}, nil,
		},
		{"one whose ground is gone was swallowed by nobody", []schema.Suspect{standingRing("x", 1, "A", "B")}, []schema.Suspect{ringOf("C", "D")}, []string{fresh("C+D")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			named, swallowed := detect.NameGroups(c.now, c.before)
			got := map[string]string{}
			for _, s := range named {
				got[group(s.Orgs)] = s.ID
			}
			for i, s := range c.now {
				if id := got[group(s.Orgs)]; id != c.want[i] {
					t.Errorf("%s: got id %s, want %s", group(s.Orgs), id, c.want[i])
				}
			}
			if !maps.Equal(swallowed, c.swallowed) {
				t.Errorf("swallowed: got %v, want %v", swallowed, c.swallowed)
			}
		})
	}
}

// TestNamingTwiceChangesNothing: whatever stood, ids are given once each, and the
// groups that were named are named the same at the next pass.
func TestNamingTwiceChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		org := rapid.SampledFrom([]string{"A", "B", "C", "D", "E", "F", "G"})
		draw := func(label string) [][]string {
			sets := rapid.SliceOfN(rapid.SliceOfNDistinct(org, 2, 5, rapid.ID), 0, 6).Draw(t, label)
			for _, s := range sets {
				slices.Sort(s)
			}
			// None lies in another, as of rings and of largest sets.
			var most [][]string
			for i, s := range sets {
				if !slices.ContainsFunc(sets[:i], func(o []string) bool { return slices.Equal(s, o) }) &&
					!slices.ContainsFunc(sets, func(o []string) bool { return len(o) > len(s) && inAll(s, o) }) {
					most = append(most, s)
				}
			}
			return most
		}
		var before, now []schema.Suspect
		for i, orgs := range draw("before") {
			s := standingRing(fmt.Sprint("x", i), rapid.IntRange(1, 3).Draw(t, "opened"), orgs...)
			if rapid.Bool().Draw(t, "explained") {
				s = explainedRing(s, rapid.SampledFrom([]string{"", "another"}).Draw(t, "superseded by"))
			}
			before = append(before, s)
		}
		for _, orgs := range draw("now") {
			now = append(now, ringOf(orgs...))
		}
		named, swallowed := detect.NameGroups(now, before)
		ids := map[string]bool{}
		stands := map[string]schema.Suspect{}
		for _, s := range before {
			s.Status = schema.StatusExplained
			s.SupersededBy = swallowed[s.ID]
			stands[s.ID] = s
		}
		for _, s := range named {
			if ids[s.ID] || s.ID == "" {
				t.Fatalf("id %q is given twice: %v", s.ID, named)
			}
			ids[s.ID] = true
			s.OpenedAt = on(1, 5, 0)
			stands[s.ID] = s
		}
		again, more := detect.NameGroups(now, slices.Collect(maps.Values(stands)))
		for _, s := range again {
			if !ids[s.ID] || !slices.Equal(stands[s.ID].Orgs, s.Orgs) {
				t.Fatalf("%v is named %s at the next pass, want the id it had: %v", s.Orgs, s.ID, named)
			}
		}
		for id := range more {
			if stands[id].Status == schema.StatusOpen {
				t.Fatalf("%s was swallowed at the next pass", id)
			}
		}
	})
}

func inAll(a, b []string) bool {
	return !slices.ContainsFunc(a, func(x string) bool { return !slices.Contains(b, x) })
}

func TestBothTransportsReadTheSameBatches(t *testing.T) {
	const query = `SELECT
			concat('药', toString(number)) AS text,
			CAST(if(number % 2 = 0, '甲', '') AS LowCardinality(String)) AS word,
			number AS whole,
			number / 3 AS number,
			toDateTime64('2026-01-01 00:00:00.123', 3, 'Asia/Shanghai') + toIntervalSecond(number) AS time
		FROM numbers({n:UInt32})
		ORDER BY whole`
	for _, n := range []string{"0", "1", "100000"} {
		var answers [2]arrow.Table
		for i, transport := range []string{"native", "http"} {
			conn := enginetest.Open(t, enginetest.Database(t, transport))
			batches, err := detect.ReadArrow(context.Background(), conn, query, map[string]string{"n": n})
			if err != nil {
				t.Fatal(err)
			}
			if len(batches) == 0 {
				continue
			}
			answers[i] = array.NewTableFromRecords(batches[0].Schema(), batches)
			if got := fmt.Sprint(answers[i].NumRows()); got != n {
				t.Errorf("%s: got %s rows, want %s", transport, got, n)
			}
		}
		if answers[0] == nil || answers[1] == nil {
			if n != "0" {
				t.Errorf("%s rows: a transport gives no batch", n)
			}
			continue
		}
		for c := range answers[0].NumCols() {
			a, b := answers[0].Column(int(c)), answers[1].Column(int(c))
			if a.Name() != b.Name() || !arrow.TypeEqual(a.DataType(), b.DataType()) || !array.ChunkedEqual(a.Data(), b.Data()) {
				t.Errorf("%s rows: column %s %s over native differs from %s %s over HTTP", n, a.Name(), a.DataType(), b.Name(), b.DataType())
			}
		}
	}
}

func TestAQueryThatFailsIsAnErrorOverBothTransports(t *testing.T) {
	for _, transport := range []string{"native", "http"} {
		conn := enginetest.Open(t, enginetest.Database(t, transport))
		for _, query := range []string{"SELECT no_such_column", "SELECT throwIf(number = 900000, 'late fault') AS n FROM numbers(1000000)", "SELECT 'a' AS x FROM numbers({n:UInt32})"} {
			if _, err := detect.ReadArrow(context.Background(), conn, query, nil); err == nil || errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: %s: got %v, want an error of the engine", transport, query, err)
			}
		}
	}
}
