package detect

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

//go:embed unpublished.sql
var unpublishedSQL string

// outbox puts each new state of a suspect on the stream SUSPECTS, once: what the
// machine wrote and what a person decided.
//
// The table published notes what is on the stream. A message is published, then
// noted, so whoever dies between the two leaves messages that nobody noted. They
// are behind the last noted one, and who comes next reads them from the stream
// and notes them before it publishes anything. A message is accepted only where it
// was expected: each says which sequence must be the newest. So of two that
// publish at once one is refused and reads first, and nothing depends on how long
// the stream remembers the ids of messages. All that was noted is therefore
// always the beginning of what is on the stream.
//
// An outbox belongs to one goroutine.
type outbox struct {
	conn driver.Conn
	js   jetstream.JetStream

	// sent is what was in the tables when all of it was published; empty for not
	// known.
	sent string

	// made and noted are the stream and its sequence up to which this outbox itself
	// knows that everything is noted; 0 when it must look.
	made  string
	noted uint64
}

// outboxBatch is how many states are published before they are noted: what a
// crash leaves to be read again.
const outboxBatch = 256

// outboxPatience is how long a batch may take to be acknowledged.
const outboxPatience = 30 * time.Second

// state is a suspect as it goes out.
type state struct {
	schema.Suspect
	decidedAt time.Time
	version   uint64
}

// id is that of the message, from which noted can tell what it carried.
func (s *state) id() string {
	return fmt.Sprintf("%s.%d.%d", s.ID, s.version, s.decidedAt.UnixMilli())
}

// note is a row of the table published.
type note struct {
	suspect   string
	version   uint64
	decidedAt time.Time
	sequence  uint64
}

// readNote takes a message id apart; not ok when it is none of ours.
func readNote(id string, sequence uint64) (n note, ok bool) {
	parts := strings.Split(id, ".")
	if len(parts) != 3 {
		return n, false
	}
	version, errVersion := strconv.ParseUint(parts[1], 10, 64)
	millis, errMillis := strconv.ParseInt(parts[2], 10, 64)
	if parts[0] == "" || errVersion != nil || errMillis != nil {
		return n, false
	}
	return note{parts[0], version, time.UnixMilli(millis), sequence}, true
}

// turn publishes all that is not on the stream. After an error it is unknown what
// arrived; the next turn finds out.
func (o *outbox) turn(ctx context.Context) error {
	mark, err := o.mark(ctx)
	if err != nil {
		return err
	}
	if mark == o.sent {
		return nil
	}
	for {
		n, err := o.round(ctx)
		if err != nil {
			o.sent, o.noted = "", 0
			return fmt.Errorf("publish suspects: %w", err)
		}
		if n == 0 {
			o.sent = mark
			return nil
		}
	}
}

// mark changes whenever a suspect changes or somebody decides.
func (o *outbox) mark(ctx context.Context) (string, error) {
	var mark string
	err := o.conn.QueryRow(ctx, `SELECT toString((
		(SELECT (count(), sum(version), max(updated_at)) FROM suspect_rows),
		(SELECT (count(), max(decided_at)) FROM decisions)))`).Scan(&mark)
	if err != nil {
		return "", fmt.Errorf("look for changed suspects: %w", err)
	}
	return mark, nil
}

// round publishes at most outboxBatch states and returns how many there were.
func (o *outbox) round(ctx context.Context) (int, error) {
	// Where the stream ends is asked before the table is: what comes after that is
	// refused by its expected sequence.
	stream, err := o.js.Stream(ctx, schema.StreamSuspects)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, fmt.Errorf("NATS has no stream %s; yaosu ingest makes it when it starts", schema.StreamSuspects)
	}
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", schema.StreamSuspects, err)
	}
	info := stream.CachedInfo()
	made, last := info.Created.UTC().Format(time.RFC3339Nano), info.State.LastSeq
	if o.made != made || o.noted != last || last == 0 {
		if err := o.catchUp(ctx, stream, made, last); err != nil {
			return 0, err
		}
	}
	states, err := o.unpublished(ctx)
	if err != nil || len(states) == 0 {
		return 0, err
	}
	pending := make([]jetstream.PubAckFuture, 0, len(states))
	for i := range states {
		message, err := o.message(&states[i])
		if err != nil {
			return 0, err
		}
		ack, err := o.js.PublishMsgAsync(message, jetstream.WithMsgID(states[i].id()), jetstream.WithExpectLastSequence(last+uint64(i)))
		if err != nil {
			return 0, fmt.Errorf("publish suspect %s: %w", states[i].ID, err)
		}
		pending = append(pending, ack)
	}
	notes := make([]note, 0, len(states))
	late := time.After(outboxPatience)
	for i, future := range pending {
		select {
		case ack := <-future.Ok():
			notes = append(notes, note{states[i].ID, states[i].version, states[i].decidedAt, ack.Sequence})
			continue
		case err = <-future.Err():
			err = fmt.Errorf("publish suspect %s: %w", states[i].ID, err)
		case <-late:
			err = fmt.Errorf("publish suspect %s: no acknowledgement within %s", states[i].ID, outboxPatience)
		case <-ctx.Done():
			err = ctx.Err()
		}
		break
	}
	// If we die here, what was acknowledged is on the stream and nobody noted it:
	// the next round reads it there.
	if err := errors.Join(err, o.note(ctx, made, notes)); err != nil {
		return 0, err
	}
	o.made, o.noted = made, notes[len(notes)-1].sequence
	return len(states), nil
}

// catchUp notes what is on the stream behind the last noted message. It begins a
// batch before that one: in a cluster a batch of notes may have reached one server
// and not the other.
func (o *outbox) catchUp(ctx context.Context, stream jetstream.Stream, made string, last uint64) error {
	var noted uint64
	if err := o.conn.QueryRow(ctx, "SELECT max(sequence) FROM published WHERE stream = ?", made).Scan(&noted); err != nil {
		return fmt.Errorf("read which suspects were published: %w", err)
	}
	var notes []note
	for at := max(noted, outboxBatch) - outboxBatch + 1; at <= last; {
		message, err := stream.GetMsg(ctx, at, jetstream.WithGetMsgSubject("suspect.v1.>"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break // the rest was deleted
		}
		if err != nil {
			return fmt.Errorf("read message %d of stream %s: %w", at, schema.StreamSuspects, err)
		}
		if n, ours := readNote(message.Header.Get(jetstream.MsgIDHeader), message.Sequence); ours {
			notes = append(notes, n)
		}
		at = message.Sequence + 1
		if len(notes) == outboxBatch || at > last {
			// In order: what is noted must stay the beginning of the stream.
			if err := o.note(ctx, made, notes); err != nil {
				return err
			}
			notes = nil
		}
	}
	return o.note(ctx, made, notes)
}

// note is safe to call twice: equal rows fall together.
func (o *outbox) note(ctx context.Context, made string, notes []note) error {
	if len(notes) == 0 {
		return nil
	}
	ctx, cancel := toTheEnd(ctx)
	defer cancel()
	batch, err := o.conn.PrepareBatch(ctx, "INSERT INTO published (suspect_id, version, decided_at, stream, sequence)")
	if err != nil {
		return fmt.Errorf("note %d published suspects: %w", len(notes), err)
	}
	defer batch.Close()
	for _, n := range notes {
		if err := batch.Append(n.suspect, n.version, n.decidedAt, made, n.sequence); err != nil {
			return fmt.Errorf("note published suspect %s: %w", n.suspect, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("note %d published suspects: %w", len(notes), err)
	}
	return nil
}

func (o *outbox) unpublished(ctx context.Context) ([]state, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"most": strconv.Itoa(outboxBatch)}))
	rows, err := o.conn.Query(ctx, unpublishedSQL)
	if err != nil {
		return nil, fmt.Errorf("read the suspects to publish: %w", err)
	}
	defer rows.Close()
	var states []state
	for rows.Next() {
		var s state
		if err := rows.Scan(&s.ID, &s.Detector, &s.DetectorVersion, &s.Severity, &s.EntityKind, &s.EntityID, &s.Period,
			&s.Regions, &s.Score, &s.FirstTime, &s.LastTime, &s.Amount, &s.Events, &s.Codes, &s.Orgs, &s.Roles, &s.Persons,
			&s.Reason, &s.Parameters, &s.Status, &s.OpenedAt, &s.UpdatedAt, &s.SupersededBy, &s.Reopened, &s.decidedAt, &s.version); err != nil {
			return nil, fmt.Errorf("read the suspects to publish: %w", err)
		}
		for _, at := range []*time.Time{&s.FirstTime, &s.LastTime, &s.OpenedAt, &s.UpdatedAt} {
			*at = at.In(schema.Shanghai)
		}
		states = append(states, s)
	}
	return states, rows.Err()
}

// noRegion stands in the subject of a suspect that names no region.
const noRegion = "000000"

// headerRoom is what a message may hold beside its payload, bytes.
const headerRoom = 4 << 10

// message is a suspect as JSON. One that is too long for NATS goes out with shorter
// lists, and says so: readers find all of it in the table.
func (o *outbox) message(s *state) (*nats.Msg, error) {
	region := noRegion
	if len(s.Regions) > 0 && len(s.Regions[0]) == len(noRegion) && strings.Trim(s.Regions[0], "0123456789") == "" {
		region = s.Regions[0]
	}
	out := struct {
		schema.Suspect
		Shortened bool `json:"shortened,omitempty"` // the lists are the beginnings of those in the table
	}{Suspect: s.Suspect}
	for {
		payload, err := json.Marshal(out)
		if err != nil {
			return nil, fmt.Errorf("write suspect %s: %w", s.ID, err)
		}
		if int64(len(payload)) <= o.js.Conn().MaxPayload()-headerRoom {
			return &nats.Msg{Subject: schema.SuspectSubject(region, s.Detector), Data: payload}, nil
		}
		longest := 1
		for _, list := range []*[]string{&out.Events, &out.Codes, &out.Persons, &out.Orgs, &out.Roles, &out.Regions} {
			longest = max(longest, len(*list))
		}
		if longest == 1 {
			return nil, fmt.Errorf("suspect %s does not fit a message of %d bytes: raise max_payload of NATS", s.ID, o.js.Conn().MaxPayload())
		}
		out.Shortened = true
		for _, list := range []*[]string{&out.Events, &out.Codes, &out.Persons, &out.Orgs, &out.Roles, &out.Regions} {
			if len(*list) > longest/2 {
				*list = (*list)[:longest/2]
			}
		}
	}
}
