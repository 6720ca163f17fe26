package filter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/bits"
	"slices"
	"strconv"
	"time"
)

// ErrNotReady says that a Source does not know everything now.
var ErrNotReady = errors.New("the index is not ready")

// Source knows what is settled.
type Source interface {
	// Settled is what is settled now. Its error may be ErrNotReady.
	Settled(context.Context) (*Settled, error)

	// Changes tells what came in. It is cheap.
	Changes() Changes
}

// Settled is what is settled at one moment.
type Settled struct {
	Of      uint64    // the stream and table, hashed
	AsOf    time.Time // all that was uploaded up to then is in
	UpTo    uint64    // and all up to this sequence of SCANS
	Changes Changes   // as they were then

	// Codes are the numbers of the codes, each once and in order. An error ends them.
	Codes iter.Seq2[uint64, error]
}

// Changes are how many uploads came in so far, in this life of the source, and how
// many it knows.
type Changes struct{ Count, Of uint64 }

// Config says how a Builder works.
type Config struct {
	// Source is what the filter is made of, Set where it is kept.
	Source Source
	Set    *Set

	// Every is how often the filter is made anew, when enough has changed: one in ten
	// thousand uploads; or anything, once a day. Default an hour.
	Every time.Duration

	// PartCodes are how many codes a part has at most. A code takes 9 to 10 bits in a
	// filter, and 40 bytes in memory while its part is made. Default 262,144.
	PartCodes int

	// Metrics, when given, counts what happens.
	Metrics *BuildMetrics

	// Log gets what went wrong. Default: nowhere.
	Log *slog.Logger
}

const (
	defaultEvery = time.Hour
	defaultCodes = 1 << 18

	enough     = 10_000          // one change in so many uploads
	mostIdle   = 24 * time.Hour  // after which any change will do
	retryTime  = 5 * time.Second // when the index is not ready
	failedTime = time.Minute
	stale      = 32 // a part is made anew when more than one in so many of its codes changed
	growth     = 4  // a layer is by this larger than all above it
	restFactor = 3  // times as long as it worked it rests
	workTime   = 2 * time.Millisecond
)

// Builder makes new versions of a filter.
type Builder struct {
	Config
	last Changes // as they were in the filter that stands
	made time.Time
}

// NewBuilder returns a Builder. Nothing is made until Run or Build is called.
func NewBuilder(cfg Config) (*Builder, error) {
	if cfg.Source == nil || cfg.Set == nil {
		return nil, errors.New("filter: needs a source and a set")
	}
	if cfg.Every <= 0 {
		cfg.Every = defaultEvery
	}
	if cfg.PartCodes <= 0 {
		cfg.PartCodes = defaultCodes
	}
	if cfg.Metrics == nil {
		cfg.Metrics = &BuildMetrics{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Builder{Config: cfg}, nil
}

// Run makes the filter now and again until ctx ends. What goes wrong is logged and
// tried again; the filter that stands is handed out meanwhile.
func (b *Builder) Run(ctx context.Context) error {
	for {
		wait := b.Every
		if b.due() {
			switch err := b.Build(ctx); {
			case ctx.Err() != nil:
			case errors.Is(err, ErrNotReady):
				wait = min(wait, retryTime)
			case err != nil:
				wait = min(wait, failedTime)
				b.Log.Warn("the filter of what is settled could not be made", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// due tells whether enough has changed. A filter of which nothing is known is made.
func (b *Builder) due() bool {
	now := b.Source.Changes()
	if b.made.IsZero() || now.Count < b.last.Count {
		return true
	}
	changed := now.Count - b.last.Count
	if changed > 0 && (changed >= now.Of/enough || time.Since(b.made) >= mostIdle) {
		return true
	}
	if changed > 0 {
		b.Metrics.skipped.Add(1)
	}
	return changed == 0 // that nothing came since is news, and costs nothing
}

// Build makes a version of what is settled now, however little has changed.
func (b *Builder) Build(ctx context.Context) error {
	begun := time.Now()
	in, err := b.Source.Settled(ctx)
	if err != nil {
		return err
	}
	old := b.Set.Current()
	if old != nil && uint64(old.Of) != in.Of {
		old = nil
	}
	w := &work{ctx: ctx, max: b.PartCodes, maker: partMaker{dir: b.Set.dir}, at: time.Now()}
	m := &Manifest{Version: strconv.FormatInt(begun.UnixMilli(), 10), Made: begun, AsOf: in.AsOf, UpTo: in.UpTo, Of: Code(in.Of)}
	if !b.made.IsZero() && old != nil && in.Changes == b.last {
		m.Layers = old.Layers
	} else if err := w.layers(m, old, in.Codes); err != nil {
		b.Metrics.failed.Add(1)
		return err
	}
	for _, l := range m.Layers {
		m.Codes += l.codes()
		for _, p := range l.Parts {
			m.Bytes += p.Bytes
		}
	}
	text, err := m.encode()
	if err == nil {
		err = b.Set.keep(m, text, true)
	}
	if err != nil {
		b.Metrics.failed.Add(1)
		return err
	}
	b.last, b.made = in.Changes, begun
	b.Metrics.built(m, w, time.Since(begun))
	b.Log.Info("a filter of what is settled stands", "version", m.Version, "codes", m.Codes, "layers", len(m.Layers), "bytes", m.Bytes,
		"parts_made", w.made, "took", time.Since(begun).Round(time.Millisecond), "worked", w.worked.Round(time.Millisecond))
	return nil
}

// work is one Build.
type work struct {
	ctx    context.Context
	max    int // codes of a part
	maker  partMaker
	made   int
	at     time.Time // since when it works
	worked time.Duration
}

// pause rests when it has worked for a while: what others ask meanwhile comes first.
func (w *work) pause() error {
	did := time.Since(w.at)
	if did < workTime {
		return nil
	}
	w.worked += did
	select {
	case <-w.ctx.Done():
		return w.ctx.Err()
	case <-time.After(restFactor * did):
	}
	w.at = time.Now()
	return nil
}

func (w *work) make(bits int, from uint64, codes []uint64) (Part, error) {
	w.made++
	p, err := w.maker.make(bits, from, codes)
	return p, errors.Join(err, w.pause())
}

// layers makes the layers of m: parts that changed anew, and what no part has in
// layers above.
func (w *work) layers(m, old *Manifest, codes iter.Seq2[uint64, error]) error {
	base := []Part{{}} // of all codes, and nothing in it
	if old != nil {
		base = old.Layers[0].Parts
	}
	next, stop := iter.Pull2(codes)
	defer stop()
	code, err, some := next()
	n := 0
	lowest := Layer{Bits: narrow}
	var pending, all []uint64
	for i := range base {
		p := &base[i]
		var f *fuse
		if p.Name != "" {
			f, _ = readPart(w.maker.dir, narrow, p) // without it the part is made anew
		}
		parts, fresh, held := len(lowest.Parts), len(pending), 0
		from := uint64(p.From)
		all = all[:0]
		for ; some && (i+1 == len(base) || code < uint64(base[i+1].From)); code, err, some = next() {
			if err != nil {
				return fmt.Errorf("read what is settled: %w", err)
			}
			if n++; n%4096 == 0 {
				if err := w.pause(); err != nil {
					return err
				}
			}
			if f != nil && f.has(code) {
				held++
			} else if parts == len(lowest.Parts) {
				pending = append(pending, code)
			}
			// Of two parts' codes most are new, so it is made anew in any case.
			if all = append(all, code); len(all) == 2*w.max {
				pending = pending[:fresh]
				if from, err = w.cut(&lowest, from, all, w.max); err != nil {
					return err
				}
				all = all[:copy(all, all[w.max:])]
			}
		}
		changed := len(pending) - fresh + max(0, p.Codes-held)
		if f != nil && parts == len(lowest.Parts) && changed <= p.Codes/stale {
			lowest.Parts = append(lowest.Parts, *p)
			continue
		}
		pending = pending[:fresh]
		if len(all) > w.max {
			half := len(all) / 2
			if from, err = w.cut(&lowest, from, all, half); err != nil {
				return err
			}
			all = all[half:]
		}
		made, err := w.make(narrow, from, all)
		if err != nil {
			return err
		}
		lowest.Parts = append(lowest.Parts, made)
	}
	m.Layers = []Layer{lowest}
	if old != nil {
		m.Layers = append(m.Layers, old.Layers[1:]...)
	}
	return w.upper(m, pending)
}

// cut makes a part of the first n of codes, and returns where the next one begins: at
// the roundest number between, which is no code that somebody sold.
func (w *work) cut(to *Layer, from uint64, codes []uint64, n int) (uint64, error) {
	p, err := w.make(to.Bits, from, codes[:n])
	to.Parts = append(to.Parts, p)
	return between(codes[n-1], codes[n]), err
}

// between is above a, and at most b, which is above a.
func between(a, b uint64) uint64 {
	differ := bits.Len64(a^b) - 1
	return b >> differ << differ
}

// upper adds a layer for those of codes that are in no layer of m, and takes away the
// layers it makes superfluous. None of codes is in the lowest.
func (w *work) upper(m *Manifest, codes []uint64) error {
	layers := m.Layers[1:]
	m.Layers = m.Layers[:1:1]
	open := make([]openLayer, len(layers))
	for i := range layers {
		open[i] = w.open(&layers[i])
	}
	// Which layer has a code, and how many each has; the one after the last is new.
	where, held := make([]int, len(codes)), make([]int, len(layers)+1)
	for i, code := range codes {
		where[i] = slices.IndexFunc(open, func(o openLayer) bool { return o.has(code) })
		if where[i] < 0 {
			where[i] = len(layers)
		}
		held[where[i]]++
		if i%4096 == 0 {
			if err := w.pause(); err != nil {
				return err
			}
		}
	}
	kept, fresh := len(layers), held[len(layers)]
	for ; kept > 0 && fresh > 0 && held[kept-1] < growth*fresh; kept-- {
		fresh += held[kept-1]
	}
	for i := range kept {
		if held[i] > 0 {
			m.Layers = append(m.Layers, layers[i])
		}
	}
	if fresh == 0 {
		return nil
	}
	into := codes[:0]
	for i, code := range codes {
		if where[i] >= kept {
			into = append(into, code)
		}
	}
	added := Layer{Bits: wide}
	from, err := uint64(0), error(nil)
	for ; len(into) > w.max; into = into[w.max:] {
		if from, err = w.cut(&added, from, into, w.max); err != nil {
			return err
		}
	}
	last, err := w.make(wide, from, into)
	added.Parts = append(added.Parts, last)
	m.Layers = append(m.Layers, added)
	return err
}

// openLayer is a layer in memory; upper ones are small. One that is damaged has nothing.
type openLayer struct {
	*Layer
	parts map[string]*fuse
}

func (w *work) open(l *Layer) openLayer {
	o := openLayer{l, map[string]*fuse{}}
	for i := range l.Parts {
		f, err := readPart(w.maker.dir, l.Bits, &l.Parts[i])
		if err != nil {
			return openLayer{l, nil}
		}
		o.parts[l.Parts[i].Name] = f
	}
	return o
}

func (o openLayer) has(code uint64) bool {
	return o.parts != nil && o.parts[o.part(code).Name].has(code)
}
