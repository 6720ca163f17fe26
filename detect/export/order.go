package export

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"yaosu/schema"
)

// inOrder is the list as an officer works it: severe ones first, of those the ones
// whose goods can still be secured, then by what the fund seems to have lost, then
// the latest. The boxes of a ring stand right under it, where the first of them all
// would stand.
func inOrder(list []schema.Suspect, around *Around) []schema.Suspect {
	loss := func(s *schema.Suspect) float64 {
		if kind := around.Rules[s.Detector].Amount; kind == AmountTurnover || kind == AmountRefunded {
			return 0
		}
		return s.Amount
	}
	urgent := func(s *schema.Suspect) int {
		if around.urgent(s) {
			return 1
		}
		return 0
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b schema.Suspect) int {
		return cmp.Or(
			cmp.Compare(slices.Index(Severities(), b.Severity), slices.Index(Severities(), a.Severity)),
			cmp.Compare(urgent(&b), urgent(&a)), cmp.Compare(loss(&b), loss(&a)), b.LastTime.Compare(a.LastTime), cmp.Compare(a.ID, b.ID))
	})
	rings := map[string]int{} // of a code, the first ring it is in
	for i := range list {
		if around.Rules[list[i].Detector].Joins != JoinsOrgs {
			continue
		}
		for _, code := range list[i].Codes {
			if _, known := rings[code]; !known {
				rings[code] = i
			}
		}
	}
	boxes := map[int][]int{}
	ringOf := func(i int) int {
		if around.Rules[list[i].Detector].Joins == JoinsOrgs {
			return i
		}
		if list[i].EntityKind != "code" || len(list[i].Codes) == 0 {
			return -1
		}
		at, known := rings[list[i].Codes[0]]
		for _, code := range list[i].Codes {
			if of, also := rings[code]; !known || !also || of != at {
				return -1
			}
		}
		return at
	}
	for i := range list {
		if at := ringOf(i); at >= 0 && at != i {
			boxes[at] = append(boxes[at], i)
		}
	}
	ordered := make([]schema.Suspect, 0, len(list))
	written := make([]bool, len(list))
	for i := range list {
		if written[i] {
			continue
		}
		block := []int{i}
		if at := ringOf(i); at >= 0 {
			block = append([]int{at}, boxes[at]...)
		}
		for _, j := range block {
			written[j] = true
			ordered = append(ordered, list[j])
		}
	}
	return ordered
}

// urgent tells whether a suspect says that goods can still be secured.
func (a *Around) urgent(s *schema.Suspect) bool {
	words := a.Rules[s.Detector].Urgent
	return words != "" && strings.Contains(s.Reason, words)
}

// manySame is from how many suspects on the same date, price or product is a reason
// to look at reference data first.
const manySame = 3

// sameness counts what the sentences of suspects share.
type sameness map[string]int

func countSame(list []schema.Suspect, around *Around) sameness {
	counts := sameness{}
	for i := range list {
		if key := around.same(&list[i]); key != "" {
			counts[key]++
		}
	}
	return counts
}

// same is the rule and what the suspect may share with others, empty for nothing.
func (a *Around) same(s *schema.Suspect) string {
	form := a.Rules[s.Detector].Same
	if form == nil {
		return ""
	}
	m := form.FindStringSubmatch(s.Reason)
	if m == nil {
		return ""
	}
	return s.Detector + "\x00" + strings.Join(m[1:], "、")
}

// hint says of a suspect with how many others it shares something.
func (c sameness) hint(s *schema.Suspect, around *Around) string {
	key := around.same(s)
	if c[key] < manySame {
		return ""
	}
	_, what, _ := strings.Cut(key, "\x00")
	return fmt.Sprintf("%d 条线索的%s都是 %s,先查资料", c[key], around.Rules[s.Detector].SameWhat, what)
}

const (
	relatedShown = 3    // ids a cell names
	relatedMost  = 2000 // from here on others are not counted one by one
)

// relations finds the suspects that have something in common with one.
type relations struct {
	list    []schema.Suspect
	by      [3]map[string][]int32 // code, person, org to places in list, ascending
	seen    []int32               // of a suspect, the last one it was found for, plus 1
	current int32
}

func relate(list []schema.Suspect) *relations {
	r := &relations{list: list, seen: make([]int32, len(list))}
	for k := range r.by {
		r.by[k] = map[string][]int32{}
		for i := range list {
			for of := range set(r.keys(k, i)) {
				r.by[k][of] = append(r.by[k][of], int32(i))
			}
		}
	}
	return r
}

func (r *relations) keys(k, i int) []string {
	return [...][]string{r.list[i].Codes, r.list[i].Persons, r.list[i].Orgs}[k]
}

// of lists those related to the suspect at a place: first by code, then, of the
// others, by person, then by institution; of each the first in the list.
func (r *relations) of(i int) string {
	r.current++
	r.seen[i] = r.current
	var lines []string
	for k, what := range []string{"同一追溯码", "同一参保人", "同一机构"} {
		var found []int32
		for _, key := range r.keys(k, i) {
			for _, j := range r.by[k][key] {
				if r.seen[j] == r.current {
					continue
				}
				if len(found) == relatedMost {
					break
				}
				r.seen[j] = r.current
				found = append(found, j)
			}
		}
		if len(found) == 0 {
			continue
		}
		slices.Sort(found)
		more := ""
		if len(found) == relatedMost {
			more = "以上"
		}
		var ids []string
		for _, j := range found[:min(len(found), relatedShown)] {
			ids = append(ids, r.list[j].ID)
		}
		line := fmt.Sprintf("%s %d 条%s:%s", what, len(found), more, strings.Join(ids, "、"))
		if len(found) > relatedShown {
			line += " 等"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
