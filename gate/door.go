package gate

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"time"
)

// ErrUnknownSender is for a credential that nobody holds, or that was revoked.
var ErrUnknownSender = errors.New("nobody holds this credential")

// Sender is what a credential stands for: who speaks, and for whom.
type Sender struct {
	Name  string            // of the software vendor, hospital group or institution; for logs
	Orgs  map[string]string // org -> region it may publish and check for
	Reads bool              // may read the life of any code (analysts of a bureau), GET /v1/codes
}

// May tells whether s speaks for org in region. A nil Sender is an open door:
// everybody may.
func (s *Sender) May(org, region string) bool {
	if s == nil {
		return true
	}
	own, held := s.Orgs[org]
	return held && own == region
}

// Senders finds who holds a credential.
type Senders interface {
	// Sender returns ErrUnknownSender for a token nobody holds or that was
	// revoked. Without a token it returns nil, everybody, while the door is open to
	// this machine. Safe for concurrent use.
	Sender(ctx context.Context, token string) (*Sender, error)
	// Certificate is the same for a verified TLS client certificate.
	Certificate(ctx context.Context, cert *x509.Certificate) (*Sender, error)
}

// Sink keeps events. On nil every event is durable: acknowledged by the stream,
// or synced in a spool. On an error some may be, too; it is safe to call again with
// the same events, and concurrently. ErrBusy and ErrFull are told to the client in
// words of their own. It keeps nothing of events after it returned.
type Sink interface {
	Store(ctx context.Context, region, org string, events []json.RawMessage) error
}

// Checker answers whether boxes may be sold now (contract.md section 6). It
// never blocks longer than its own deadline: it answers warn and degraded
// instead. It records nothing. A *RequestError is of a request that is none.
type Checker interface {
	Check(ctx context.Context, q CheckRequest) (CheckReply, error)
}

// RequestError says in Chinese what is wrong with a request, to who sent it.
type RequestError struct{ Reason string }

func (e *RequestError) Error() string { return e.Reason }

// Decisions of a check.
const (
	Pass = "pass"
	Warn = "warn" // no item code, or the answer is not certain
	Stop = "stop" // selling it now would make a finding
)

// CheckRequest asks about the boxes of one line, before it is settled.
type CheckRequest struct {
	Codes      []string `json:"codes"` // as the scanner read them
	Org        string   `json:"org"`
	Region     string   `json:"region"`
	Person     string   `json:"person,omitempty"`     // number of the insured person, never kept
	Settlement string   `json:"settlement,omitempty"` // a retry of the same one is no second sale
	Drug       string   `json:"drug,omitempty"`       // national catalogue code
	Split      bool     `json:"split,omitempty"`
	// Quantity is in smallest packs, or in smallest units with Split. Nil: one a code.
	Quantity *float64 `json:"quantity,omitempty"`
}

// CheckReply is the answer: the worst decision, and one for each code, in order.
type CheckReply struct {
	Decision string      `json:"decision"`
	Degraded bool        `json:"degraded"` // not everything could be asked
	Codes    []CodeReply `json:"codes"`
	TookMs   float64     `json:"took_ms"`
}

// CodeReply is the answer for one code.
type CodeReply struct {
	Code     string   `json:"code"`
	Scheme   string   `json:"scheme"`
	Decision string   `json:"decision"`
	Reasons  []Reason `json:"reasons"` // empty for a plain pass, never null
	Last     *Last    `json:"last,omitempty"`
}

// Reason says why, for programs and for the pharmacist.
type Reason struct {
	Rule string `json:"rule"` // a detector's id, or a word of the check's own
	Text string `json:"text"` // one Chinese sentence, naming no person and no other shop
}

// Last is the newest settlement of a code. It names no shop but the asker's own.
type Last struct {
	Own    bool      `json:"own"`
	Org    string    `json:"org,omitempty"` // only when Own
	Region string    `json:"region"`
	Time   time.Time `json:"time"`
}
