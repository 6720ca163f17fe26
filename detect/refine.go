package detect

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"yaosu/schema"
)

// refinement finds what SQL cannot say: graphs and sets. The rule's SQL gives it
// rows, it gives findings of groups.
type refinement struct {
	// find is a pure function of the set of rows: neither their order nor their
	// batches count. Besides findings it may return unjudged.
	find func(batches []arrow.Record, params map[string]string) ([]finding, error)

	// members are those who make the group, each once, sorted.
	members func(schema.Suspect) []string
}

// refinements are the values of the header key refine.
func refinements() map[string]refinement {
	return map[string]refinement{
		"ring":   {findRings, func(s schema.Suspect) []string { return distinct(s.Orgs) }},
		"bundle": {findBundles, func(s schema.Suspect) []string { return distinct(s.Persons) }},
	}
}

func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// unjudged says that some of what hangs together was too much to work out. The
// findings beside it are right and complete but for members; what stood about
// those before must be left standing.
type unjudged struct {
	members map[string]bool
	what    string
}

func (u *unjudged) Error() string {
	return fmt.Sprintf("%s: %d members are not judged, and what stood about them is left as it was", u.what, len(u.members))
}

// whole reads a threshold.
func whole(params map[string]string, name string) (int, error) {
	n, err := strconv.Atoi(params[name])
	if err != nil {
		return 0, fmt.Errorf("parameter %s: %w", name, err)
	}
	return n, nil
}

func orderProofs(proofs []proof) []proof {
	slices.SortFunc(proofs, func(a, b proof) int {
		return cmp.Or(a.time.Compare(b.time), cmp.Compare(a.org, b.org), cmp.Compare(a.event, b.event),
			cmp.Compare(a.code, b.code), cmp.Compare(a.role, b.role), cmp.Compare(a.person, b.person), cmp.Compare(a.region, b.region))
	})
	return slices.Compact(proofs)
}

// nameGroups gives each suspect, whose entity_id says who founded it, the id it
// goes by, and returns which standing groups were swallowed, by id, and by whom.
//
// A group that grows or shrinks keeps its id: it takes that of the standing group
// with which it shares the most members, at least half of those of the smaller
// of the two; open ones come before explained ones, then the one opened first.
// Each id is taken once. A group that finds none to take goes by its founders;
// where another already has that id, a number is put behind. A standing group
// that is left over, and whose members are all in one group now, was swallowed by
// it. What was swallowed once is taken by nobody, but by founders.
func nameGroups(list []schema.Suspect, before map[string]standing, members func(schema.Suspect) []string) (swallowed map[string]string) {
	slices.SortFunc(list, func(a, b schema.Suspect) int {
		return cmp.Or(strings.Compare(a.EntityID, b.EntityID), slices.Compare(members(a), members(b)))
	})
	size := make([]int, len(list))
	in := map[string][]int{} // member to groups
	for i, s := range list {
		of := members(s)
		size[i] = len(of)
		for _, m := range of {
			in[m] = append(in[m], i)
		}
	}
	type kinship struct {
		group  int
		old    standing
		shared int
	}
	var kin []kinship
	for _, old := range before {
		if old.SupersededBy != "" {
			continue
		}
		of := members(old.Suspect)
		shared := map[int]int{}
		for _, m := range of {
			for _, i := range in[m] {
				shared[i]++
			}
		}
		for i, n := range shared {
			if 2*n >= min(len(of), size[i]) {
				kin = append(kin, kinship{i, old, n})
			}
		}
	}
	explained := func(s standing) int {
		if s.Status == schema.StatusExplained {
			return 1
		}
		return 0
	}
	slices.SortFunc(kin, func(a, b kinship) int {
		return cmp.Or(cmp.Compare(explained(a.old), explained(b.old)), cmp.Compare(b.shared, a.shared),
			a.old.OpenedAt.Compare(b.old.OpenedAt), strings.Compare(a.old.ID, b.old.ID), cmp.Compare(a.group, b.group))
	})
	named := make([]bool, len(list))
	taken := map[string]bool{}
	for _, k := range kin {
		if !named[k.group] && !taken[k.old.ID] {
			named[k.group], taken[k.old.ID] = true, true
			list[k.group].ID, list[k.group].EntityID = k.old.ID, k.old.EntityID
		}
	}
	for i := range list {
		s := &list[i]
		founders := s.EntityID
		for n := 2; !named[i]; n++ {
			s.ID = schema.SuspectID(s.Detector, s.EntityKind, s.EntityID, s.Period)
			if !taken[s.ID] {
				named[i], taken[s.ID] = true, true
				break
			}
			s.EntityID = fmt.Sprintf("%s~%d", founders, n)
		}
	}
	swallowed = map[string]string{}
	for _, k := range kin {
		if into := list[k.group].ID; !taken[k.old.ID] && k.shared == len(members(k.old.Suspect)) {
			swallowed[k.old.ID] = min(cmp.Or(swallowed[k.old.ID], into), into)
		}
	}
	return swallowed
}

// touches tells whether a suspect has a member that was not judged.
func (u *unjudged) touches(members []string) bool {
	return u != nil && slices.ContainsFunc(members, func(m string) bool { return u.members[m] })
}

// orNil is u as an error, nil for none.
func (u *unjudged) orNil() error {
	if u == nil {
		return nil
	}
	return u
}

// asUnjudged tells apart what was left out from what failed.
func asUnjudged(err error) (*unjudged, error) {
	var left *unjudged
	if errors.As(err, &left) {
		return left, nil
	}
	return nil, err
}
