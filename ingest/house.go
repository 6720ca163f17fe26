package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// classifier reads codes with the placeholders of one moment.
type classifier struct {
	codes *schema.Classifier
	texts []string
}

// keepHouse trims the stream and follows the table of placeholders until ctx ends.
func (in *ingester) keepHouse(ctx context.Context) {
	tick := time.NewTicker(in.Housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := in.readPlaceholders(ctx); err != nil && ctx.Err() == nil {
			in.Log.Warn("keeping the placeholders of before", "error", err)
		}
		switch err := in.trim(ctx); {
		case errors.Is(err, nats.ErrConnectionClosed):
			return
		case err != nil && ctx.Err() == nil:
			in.Log.Warn("not trimmed this time", "error", err)
		}
	}
}

const selectPlaceholders = `SELECT DISTINCT
    text
FROM placeholders
ORDER BY text`

// readPlaceholders takes up the table of placeholders. New batches use it.
func (in *ingester) readPlaceholders(ctx context.Context) error {
	rows, err := in.Conn.Query(ctx, selectPlaceholders)
	if err != nil {
		return fmt.Errorf("read the placeholders: %w", err)
	}
	defer rows.Close()
	texts := []string{}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("read the placeholders: %w", err)
		}
		texts = append(texts, text)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the placeholders: %w", err)
	}
	if now := in.classify.Load(); now == nil || !slices.Equal(now.texts, texts) {
		in.classify.Store(&classifier{codes: schema.NewClassifier(texts), texts: texts})
	}
	return nil
}

// trim removes the oldest messages of SCANS that are more than KeepBytes, and
// none that is not stored. It also notes how much waits.
func (in *ingester) trim(ctx context.Context) error {
	// The ledger first, or it would know of messages that the stream does not have.
	l, err := in.book.read(ctx)
	if err != nil {
		return fmt.Errorf("trim %s: %w", schema.StreamScans, err)
	}
	stream, err := in.JS.Stream(ctx, schema.StreamScans)
	if err != nil {
		return fmt.Errorf("trim %s: %w", schema.StreamScans, err)
	}
	state := stream.CachedInfo().State
	if l == nil || l.misfits(stream.CachedInfo()) {
		return nil // it is not of this stream; the next time it will be
	}
	in.Metrics.latest(state.LastSeq)
	in.Metrics.progress(l, 0)
	if state.Bytes <= in.KeepBytes || state.Msgs == 0 {
		return nil
	}
	// Messages differ in size; what this leaves too much goes the next time.
	average := max(1, state.Bytes/state.Msgs)
	before := state.FirstSeq + (state.Bytes-in.KeepBytes+average-1)/average
	before = min(before, l.storedUpTo()+1)
	if before <= state.FirstSeq {
		return nil
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return fmt.Errorf("trim %s: %w", schema.StreamScans, err)
	}
	in.Log.Debug("trimmed", "stream", schema.StreamScans, "before", before)
	return nil
}
