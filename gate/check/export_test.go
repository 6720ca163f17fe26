package check

import (
	"iter"
	"time"

	"yaosu/schema"
)

// Name is the hash by which names are kept.
func Name(s string) uint64 { return nameOf(s) }

// Pack is what a test knows of a product.
type Pack struct {
	Drug         string
	Larger       bool
	Holds, Units float64
}

// Over returns a Checker over scans alone, without table and stream, that takes the
// moment they were received for their own. Uploads become a run each limit of them.
func Over(dir string, key *schema.PersonKey, packs map[string]Pack, scans iter.Seq[schema.Scan], limit int, now time.Time) (*Checker, error) {
	s := newStore(dir, "test", limit, nil)
	r := reader{key: key}
	c := &Checker{Config: Config{Dir: dir, Key: key, CloneDays: 3, Now: func() time.Time { return now }, Metrics: &Metrics{}}, damaged: make(chan error, 1)}
	ref := &reference{classify: schema.NewClassifier(nil), packs: map[string]pack{}}
	for product, p := range packs {
		ref.packs[product] = pack{p.Drug, p.Larger, p.Holds, p.Units}
	}
	seq := uint64(0)
	for scan := range scans {
		seq++
		uploads, void := r.read(&scan, scan.Time, ref.classify)
		if s.put(uploads, void, seq) {
			s.freeze()
			if err := s.flush(func() bool { return false }); err != nil {
				return nil, err
			}
		}
	}
	c.store.Store(s)
	c.reference.Store(ref)
	return c, nil
}
