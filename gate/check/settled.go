package check

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"yaosu/gate/filter"
)

var _ filter.Source = (*Checker)(nil)

// Settled implements filter.Source: all codes that have an effective sale, insured and
// not undone (contract.md, section 8), from what this index knows. It is read beside
// the answers, which wait for it nowhere longer than for the newest sale to be put in.
func (c *Checker) Settled(context.Context) (*filter.Settled, error) {
	// So long it may take until it shows that the index is behind.
	asOf := time.Now().Add(-behindTime - beat - beatTime)
	s := c.store.Load()
	if s == nil || c.away.Load() != nil {
		return nil, filter.ErrNotReady
	}
	in := &filter.Settled{Of: xxhash.Sum64String(s.source), AsOf: asOf, UpTo: c.Metrics.applied.Load(), Changes: c.changes(s)}
	in.Codes = func(yield func(uint64, error) bool) {
		err := s.settled(func(code uint64) bool { return yield(code, nil) })
		if errors.Is(err, errDamaged) {
			c.hurt(err)
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(0, err)
		}
	}
	return in, nil
}

// Changes implements filter.Source.
func (c *Checker) Changes() filter.Changes {
	s := c.store.Load()
	if s == nil {
		return filter.Changes{}
	}
	return c.changes(s)
}

func (c *Checker) changes(s *store) filter.Changes {
	uploads, _, _, _ := s.sizes()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return filter.Changes{Count: s.changes, Of: uint64(uploads)}
}

// settled goes through all codes that have an effective sale, in order, until take
// returns false; then it returns errStopped. What comes in meanwhile may be seen or not.
func (s *store) settled(take func(code uint64) bool) error {
	s.mu.RLock()
	runs := s.runs
	var from []iter.Seq[keyed]
	for _, n := range []*newest{s.frozen, s.active} {
		if n != nil {
			from = append(from, n.all())
		}
	}
	s.mu.RUnlock()
	failures := make([]error, len(runs))
	for i, r := range runs {
		from = append(from, r.all(&failures[i]))
	}
	err := byCode(from, func(code uint64, uploads []upload) error {
		if s.effective(uploads) && !take(code) {
			return errStopped
		}
		return nil
	})
	return errors.Join(append(failures, err)...)
}

// effective tells whether a code with these uploads has an effective sale.
func (s *store) effective(uploads []upload) bool {
	if !slices.ContainsFunc(uploads, func(u upload) bool { return u.insured && !u.back }) {
		return false
	}
	l := life{uploads: uploads, voids: map[voidName][]void{}}
	s.mu.RLock()
	for i := range uploads {
		s.takeVoids(&l, &uploads[i])
	}
	s.mu.RUnlock()
	if len(uploads) == 1 && len(l.voids) == 0 {
		return true // as nearly all are
	}
	return slices.ContainsFunc(l.sales(), func(sold *sale) bool { return sold.insured && !sold.undone })
}

// all goes through the uploads in order of their codes, as they are now. The lock of
// the store is held now, and not needed later: what is in a chunk stays as it is.
func (n *newest) all() iter.Seq[keyed] {
	chunks, places := slices.Clone(n.chunks), n.places
	return func(yield func(keyed) bool) {
		type entry struct {
			code uint64
			at   uint32
		}
		var entries []entry
		for i, b := range chunks {
			s := scanner{b: b[1:]}
			for len(s.b) > 0 {
				at := uint32(i*chunkBytes + len(b) - len(s.b))
				var u upload
				s.take(4)
				s.code = 0
				s.next(&u)
				entries = append(entries, entry{s.code, at})
			}
		}
		slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.code, b.code) })
		for _, e := range entries {
			s := scanner{b: chunks[e.at/chunkBytes][e.at%chunkBytes+4:]}
			k := keyed{code: e.code}
			p := places[s.next(&k.upload)]
			k.org, k.region = p.org, p.region
			if !yield(k) {
				return
			}
		}
	}
}
