package scanner

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/schema"
)

// Config says how to publish. The zero value serves.
type Config struct {
	// MessageEvents is how many events of one institution share a message. The cost
	// of publishing and reading is by message. Default 500; with 1 every event
	// travels alone.
	MessageEvents int

	// MessageBytes closes a message before it holds that many events. Default
	// 512 KiB, and never more than NATS takes.
	MessageBytes int

	// Batch is how many messages are stored all or none by one acknowledgement, at
	// most 1000. Where NATS syncs always, one sync then serves the batch. Default: 1
	// with many events a message, and 500 with MessageEvents 1; docs/durability.md
	// says why. With 1 each message is acknowledged by itself. A stream that does
	// not take batches gets single messages.
	Batch int

	// Outstanding bounds the messages that are sent and not acknowledged. Default
	// 1024, or four batches if that is more.
	Outstanding int

	// OutstandingBytes bounds their bytes, and separately those of messages that are
	// not full yet. Default 32 MiB each.
	OutstandingBytes int

	// AckTimeout is how long an acknowledgement is awaited before the message is
	// sent again. Default 15 s.
	AckTimeout time.Duration

	// RetryFor is how long messages are sent again without one of them being
	// acknowledged, before the Publisher gives up. Default 1 minute: with AckTimeout
	// it is less than the stream remembers ids.
	RetryFor time.Duration

	// Log is told what had to be sent again. Default: nobody.
	Log *slog.Logger
}

const (
	defaultMessageEvents = 500
	defaultMessageBytes  = 512 << 10
	defaultBatch         = 500
	defaultOutstanding   = 1024
	defaultBytes         = 32 << 20
	defaultAckTimeout    = 15 * time.Second
	defaultRetryFor      = time.Minute

	// maxBatch is the server's own limit.
	maxBatch = 1000

	// A batch closes at so many bytes: the server holds it in memory while it
	// commits it.
	batchBytes = 4 << 20

	// headerRoom is kept free of a server's largest message for headers.
	headerRoom = 1 << 10

	// maxPacks bounds the institutions that have a message being filled.
	maxPacks = 1 << 16

	// remembered is how many messages back two equal ones are told apart, at least.
	// It costs about 50 bytes a message.
	remembered = 1 << 20
)

// ErrTooLarge is of an event or message that is larger than this NATS takes. It
// was not sent, and the Publisher goes on.
var ErrTooLarge = errors.New("larger than this NATS takes")

// ErrRefused is of a message that the stream will never take, whoever sends it
// however often: it is larger than the stream allows. Others may be fine.
var ErrRefused = errors.New("the stream will never take one of them")

// Message is a ready-made message, such as an Arrow stream.
type Message struct {
	Region, Org string

	// ContentType is one of schema's.
	ContentType string

	// Refusal says why Body, an event with the content type schema.ContentRefused, was
	// refused already. Nil for anything else.
	Refusal *schema.Refusal

	// Body is the Publisher's until Flush has returned.
	Body []byte

	// Events is how many events Body counts for in Published.
	Events int

	// Stored, when it is not nil, is called with the sequence of the message in the
	// stream once it is acknowledged, from within Add, AddMessage or Flush.
	Stored func(seq uint64)
}

// Published is what a Publisher has done.
type Published struct {
	Events       int // sent
	Messages     int // sent, each counted once
	Acknowledged int // events that are in the stream
	LastSeq      uint64
	Resent       int // messages that were sent again
}

// Publisher packs and sends events. It is used by one goroutine at a time. After
// an error other than ErrTooLarge it sends nothing more and repeats that error.
type Publisher struct {
	js      jetstream.JetStream
	cfg     Config
	largest int // bytes of a body
	err     error
	done    Published

	packs   map[string]*pack
	order   []*pack // of packs, oldest first: the same events make the same messages
	inPacks int     // bytes

	seen, before map[[16]byte]int // how often a message came, in two generations

	batch     []*outgoing // being filled
	inBatch   int         // bytes
	batchName string
	batches   int
	plain     bool // the stream takes no batches

	flights     []flight // oldest first
	inFlight    int      // messages
	flightBytes int
}

// pack is a message that is being filled.
type pack struct {
	region, org string
	body        []byte
	events      int
}

// New returns a Publisher over the connection of js, which must stay open until
// the last Flush.
func New(js jetstream.JetStream, cfg Config) (*Publisher, error) {
	if cfg.MessageEvents <= 0 {
		cfg.MessageEvents = defaultMessageEvents
	}
	if cfg.MessageBytes <= 0 {
		cfg.MessageBytes = defaultMessageBytes
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 1
		if cfg.MessageEvents == 1 {
			cfg.Batch = defaultBatch
		}
	}
	cfg.Batch = min(cfg.Batch, maxBatch)
	if cfg.Outstanding <= 0 {
		cfg.Outstanding = max(defaultOutstanding, 4*cfg.Batch)
	}
	if cfg.OutstandingBytes <= 0 {
		cfg.OutstandingBytes = defaultBytes
	}
	if cfg.AckTimeout <= 0 {
		cfg.AckTimeout = defaultAckTimeout
	}
	if cfg.RetryFor <= 0 {
		cfg.RetryFor = defaultRetryFor
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	// Our own, as the bounds on what is not acknowledged are those of one JetStream.
	own, err := jetstream.New(js.Conn(),
		jetstream.WithPublishAsyncTimeout(cfg.AckTimeout),
		jetstream.WithPublishAsyncMaxPending(2*max(cfg.Outstanding, cfg.Batch)))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	largest := int(js.Conn().MaxPayload()) - headerRoom
	if largest <= 0 {
		return nil, errors.New("not connected to NATS yet: nobody knows how large a message may be")
	}
	cfg.MessageBytes = min(cfg.MessageBytes, largest)
	return &Publisher{
		js:        own,
		cfg:       cfg,
		largest:   largest,
		packs:     map[string]*pack{},
		seen:      map[[16]byte]int{},
		batchName: rand.Text()[:12],
	}, nil
}

// Add takes one event, which is sent at the latest by Flush. eventJSON is the
// caller's again when Add returns. Events of one institution keep their order
// within a message, and messages that need not be sent again keep theirs.
func (p *Publisher) Add(ctx context.Context, region, org string, eventJSON []byte) error {
	if p.err != nil {
		return p.err
	}
	if len(eventJSON) >= p.largest {
		return fmt.Errorf("an event of %s, %d bytes: %w (%d)", org, len(eventJSON), ErrTooLarge, p.largest)
	}
	subject := schema.ScanSubject(region, org)
	k := p.packs[subject]
	if k != nil && len(k.body)+len(eventJSON) >= p.cfg.MessageBytes {
		if err := p.close(ctx, k); err != nil {
			return p.fail(err)
		}
	}
	if k == nil {
		k = &pack{region: region, org: org}
		p.packs[subject] = k
		p.order = append(p.order, k)
	}
	if k.body == nil && p.cfg.MessageEvents == 1 {
		k.body = make([]byte, 0, len(eventJSON)+1)
	}
	k.body = append(append(k.body, eventJSON...), '\n')
	k.events++
	p.inPacks += len(eventJSON) + 1
	var err error
	if k.events >= p.cfg.MessageEvents {
		err = p.close(ctx, k)
	}
	if err == nil && (p.inPacks >= p.cfg.OutstandingBytes || len(p.order) >= maxPacks) {
		err = p.closeAll(ctx)
	}
	return p.fail(err)
}

// AddMessage takes a message as it is. It is sent at the latest by Flush, and may
// overtake events that were added before it and whose message is not full.
func (p *Publisher) AddMessage(ctx context.Context, m *Message) error {
	if p.err != nil {
		return p.err
	}
	if len(m.Body) > p.largest {
		return fmt.Errorf("a message of %s, %d bytes: %w (%d)", m.Org, len(m.Body), ErrTooLarge, p.largest)
	}
	return p.fail(p.take(ctx, m))
}

// Flush sends what was added and returns when all of it is acknowledged, with what
// the Publisher has done since New. After an error too the counts are true. With a
// ctx that has ended nothing more is sent.
func (p *Publisher) Flush(ctx context.Context) (Published, error) {
	if p.err != nil {
		return p.done, p.err
	}
	err := ctx.Err()
	if err == nil {
		err = p.closeAll(ctx)
	}
	if err == nil {
		err = p.closeBatch(ctx)
	}
	if err == nil {
		err = p.settle(ctx, 0, 0)
	}
	return p.done, p.fail(err)
}

// fail ends the Publisher when err is an error. Acknowledgements that came
// already are still counted.
func (p *Publisher) fail(err error) error {
	if p.err = err; err == nil {
		return nil
	}
	for _, f := range p.flights {
		if f.err == nil {
			select {
			case ack := <-f.future.Ok():
				p.land(f, ack)
			default:
			}
		}
	}
	p.flights = nil
	return err
}

func (p *Publisher) closeAll(ctx context.Context) error {
	for _, k := range p.order {
		if err := p.close(ctx, k); err != nil {
			return err
		}
	}
	clear(p.packs)
	clear(p.order)
	p.order = p.order[:0]
	return nil
}

// close sends what k holds and empties it.
func (p *Publisher) close(ctx context.Context, k *pack) error {
	if k.events == 0 {
		return nil
	}
	m := &Message{Region: k.region, Org: k.org, ContentType: schema.ContentNDJSON, Body: k.body, Events: k.events}
	p.inPacks -= len(k.body)
	k.body, k.events = nil, 0
	return p.take(ctx, m)
}

// take sends m, alone or in a batch.
func (p *Publisher) take(ctx context.Context, m *Message) error {
	subject := schema.ScanSubject(m.Region, m.Org)
	o := &outgoing{subject: subject, id: p.messageID(subject, m.Body), Message: m}
	if p.cfg.Batch == 1 || p.plain {
		return p.launch(ctx, []*outgoing{o})
	}
	if p.inBatch+len(m.Body) > batchBytes {
		if err := p.closeBatch(ctx); err != nil {
			return err
		}
	}
	p.batch = append(p.batch, o)
	p.inBatch += len(m.Body)
	if len(p.batch) == p.cfg.Batch {
		return p.closeBatch(ctx)
	}
	return nil
}

func (p *Publisher) closeBatch(ctx context.Context) error {
	if len(p.batch) == 0 {
		return nil
	}
	full := p.batch
	p.batch, p.inBatch = make([]*outgoing, 0, p.cfg.Batch), 0
	return p.launch(ctx, full)
}

// messageID is the same for the same message of the same file, so a file that is
// published twice in a row costs the ingester nothing. The nth of identical
// messages gets a number, lest it be taken for the first sent again. Of those that
// are further apart than we remember the second is not stored; it says nothing new.
func (p *Publisher) messageID(subject string, body []byte) string {
	h := sha256.New()
	h.Write([]byte(subject))
	h.Write([]byte{0})
	h.Write(body)
	digest := [16]byte(h.Sum(nil))
	n := p.seen[digest]
	if n == 0 {
		n = p.before[digest]
	}
	n++
	p.seen[digest] = n
	if len(p.seen) >= remembered {
		p.before, p.seen = p.seen, map[[16]byte]int{}
	}
	id := "publish-" + hex.EncodeToString(digest[:])
	if n > 1 {
		id += "-" + strconv.Itoa(n)
	}
	return id
}
