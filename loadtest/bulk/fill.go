package bulk

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

// event is a scan and when the stream takes it.
type event struct {
	scan     schema.Scan
	received time.Time
}

// batch is what arrives on one day.
type batch struct {
	events []event
	order  []int32  // of arrival
	seqs   []uint64 // of the messages that bring them, in that order
	rows   int

	// Of the delivery note that is being written.
	note     string
	noteTime time.Time
	noteLag  time.Duration
}

// blockRows is how many rows go to the engine in one insert.
const blockRows = 500_000

// Progress is told after each insert.
type Progress func(rows int, arrived time.Time)

// Years makes all of the years a Config speaks of and stores them. It returns
// how many rows that were.
func (w *World) Years(ctx context.Context, conn *schema.Conn, key *schema.PersonKey, progress Progress) (rows int, err error) {
	return w.run(ctx, conn, key, progress, func() bool { return w.today+1 < days })
}

// More stores what arrives on the next days, whole days, until it is at least
// rows. It returns how many rows that were.
func (w *World) More(ctx context.Context, conn *schema.Conn, key *schema.PersonKey, rows int, progress Progress) (stored int, err error) {
	until := w.rows + rows
	return w.run(ctx, conn, key, progress, func() bool { return w.rows < until })
}

// Resume lives on without storing anything, until as many rows were made as a
// database holds that an earlier World of the same Config filled: Years and More
// go on from there. Blocks end with a day, so a run that died left whole days.
func (w *World) Resume(rows int) error {
	var b batch
	for w.rows < rows {
		w.nextDay(&b)
	}
	if w.rows != rows {
		return fmt.Errorf("go on after %d rows: a day ends at %d: they were made by another configuration", rows, w.rows)
	}
	return nil
}

// run lives, makes blocks and sends them side by side.
func (w *World) run(ctx context.Context, conn *schema.Conn, key *schema.PersonKey, progress Progress, more func() bool) (int, error) {
	before := w.rows
	group, ctx := errgroup.WithContext(ctx)
	lived, freeBatches := make(chan *batch), make(chan *batch, 2) // two, so that giving back never waits
	full, freeBlocks := make(chan *stored), make(chan *stored, 2)
	people, classify := schema.NewPeople(key), schema.NewClassifier(nil)
	for range 2 {
		freeBatches <- &batch{}
		block := schema.NewBlock(people, classify)
		block.Reset(classify)
		freeBlocks <- &stored{block: block}
	}
	group.Go(func() error {
		defer close(lived)
		for more() {
			var b *batch
			select {
			case b = <-freeBatches:
			case <-ctx.Done():
				return ctx.Err()
			}
			w.nextDay(b)
			select {
			case lived <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(full)
		var now *stored
		give := func() error {
			select {
			case full <- now:
				now = nil
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for b := range lived {
			if now == nil {
				select {
				case now = <-freeBlocks:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			for at, i := range b.order {
				e := &b.events[i]
				now.block.Add(&e.scan, b.seqs[at], e.received)
				now.arrived = e.received
			}
			freeBatches <- b
			if now.block.Rows() >= blockRows {
				if err := give(); err != nil {
					return err
				}
			}
		}
		if now != nil && now.block.Rows() > 0 {
			return give()
		}
		return nil
	})
	rows := 0
	group.Go(func() error {
		for s := range full {
			if err := s.block.Send(ctx, conn, ""); err != nil {
				return fmt.Errorf("store scans that arrived until %s: %w", s.arrived.Format(time.DateOnly), err)
			}
			rows += s.block.Rows()
			if progress != nil {
				progress(rows, s.arrived)
			}
			s.block.Reset(classify)
			freeBlocks <- s
		}
		return nil
	})
	err := group.Wait()
	if err == nil && rows != w.rows-before {
		err = fmt.Errorf("%d rows were made and %d stored", w.rows-before, rows)
	}
	return rows, err
}

// stored is a block on its way.
type stored struct {
	block   *schema.Block
	arrived time.Time
}

// nextDay puts into b what arrives on the next day, in the order it does.
func (w *World) nextDay(b *batch) {
	w.today++
	b.events = append(b.events[:0], w.pending[w.today]...)
	b.rows = 0
	delete(w.pending, w.today)
	w.made = b
	if day := w.today + horizon; day >= 0 {
		w.plan(day)
	}
	w.deliver()
	w.serve()
	b.order = b.order[:0]
	for i := range b.events {
		b.order = append(b.order, int32(i))
		b.rows += max(1, len(b.events[i].scan.Codes))
	}
	slices.SortFunc(b.order, func(i, k int32) int {
		a, c := &b.events[i], &b.events[k]
		return cmp.Or(a.received.Compare(c.received), strings.Compare(a.scan.Org, c.scan.Org), int(i-k))
	})
	w.rows += b.rows
	b.seqs = b.seqs[:0]
	last := -1
	for at, i := range b.order {
		// What an org sends at one moment is one message.
		if at == 0 || b.events[i].scan.Org != b.events[last].scan.Org || !b.events[i].received.Equal(b.events[last].received) {
			w.seq++
		}
		last = int(i)
		b.seqs = append(b.seqs, w.seq)
	}
}

// emit has a scan arrive, today or later.
func (w *World) emit(s schema.Scan, received time.Time) {
	day := int((received.Unix()-firstDay.Unix()+4000*daySecs)/daySecs - 4000)
	if day <= w.today {
		w.made.events = append(w.made.events, event{s, received})
		return
	}
	w.pending[day] = append(w.pending[day], event{s, received})
}
