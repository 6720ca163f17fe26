package sender

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"yaosu/gate"
	"yaosu/schema"
)

// Lifetime is when a connection must say again who it is, or up to a ninth later,
// so that those which came together do not all come back together.
const Lifetime = 8 * time.Hour

const (
	calloutSubject = "$SYS.REQ.USER.AUTH"
	calloutQueue   = "yaosu-senders"
	calloutHeader  = "Nats-Server-Xkey"

	// anonymous is the name of who came without a credential. A holder's is
	// name@revision, and no name has this sign.
	anonymous = "@open"

	// A request that was under way while a credential changed is answered or dead
	// by then: the server waits two seconds for an answer.
	afterglow = 5 * time.Second

	listTime = time.Second // for all servers to say who is connected
	retry    = time.Second
	pageSize = 1024
)

// Accounts on NATS. Who comes with a credential is in one of its own, from which
// only Services lead to that of streams and parts: in theirs he could name any
// subject there to be answered on, an entry of the ledger or the API that purges a
// stream, and whoever answers him would write it.
const (
	PartsAccount   = "YAOSU"
	SendersAccount = "SENDERS"
)

// Services are the subjects that a sender's account may publish to.
func Services() []string { return []string{"scan.v1.>", "check.v1.>"} }

// CalloutConfig is what a Callout needs.
type CalloutConfig struct {
	// Conn is of our own parts, in their account, with all rights.
	Conn *nats.Conn
	// System is of the system account (Key.AsSystem).
	System *nats.Conn

	Key       *Key
	Directory *Directory

	// Log gets who was let in (at level debug), refused and disconnected. Default:
	// nowhere.
	Log *slog.Logger
}

// Callout answers NATS who a new connection is, and ends connections of what was
// revoked.
type Callout struct {
	CalloutConfig
	sub *nats.Subscription
}

// NewCallout answers from when it returns. Run must follow.
func NewCallout(cfg CalloutConfig) (*Callout, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Callout{CalloutConfig: cfg}
	var err error
	// One of all that run is asked.
	if c.sub, err = cfg.Conn.QueueSubscribe(calloutSubject, calloutQueue, c.answer); err != nil {
		return nil, fmt.Errorf("wait for NATS to ask who connects: %w", err)
	}
	if err := cfg.Conn.Flush(); err != nil {
		return nil, fmt.Errorf("wait for NATS to ask who connects: %w", err)
	}
	return c, nil
}

// Run works until ctx ends.
func (c *Callout) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.endOld(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		_ = c.sub.Unsubscribe() // fails when the connection is closed, which ends it too
		return nil
	})
	return group.Wait()
}

// answer tells NATS about one connection. Without an answer it is refused.
func (c *Callout) answer(msg *nats.Msg) {
	data := msg.Data
	server := msg.Header.Get(calloutHeader)
	if server != "" {
		var err error
		if data, err = c.Key.cipher.Open(data, server); err != nil {
			c.Log.Error("NATS asks with another key: are issuer and xkey in its configuration those of `yaosu org key`?")
			return
		}
	}
	request, err := jwt.DecodeAuthorizationRequestClaims(string(data))
	if err != nil {
		c.Log.Error("NATS asked something else", "error", err)
		return
	}
	reply := jwt.NewAuthorizationResponseClaims(request.UserNkey)
	reply.Audience = request.Server.ID
	if user, err := c.user(request); err != nil {
		// The server logs it, and tells the client nothing.
		reply.Error = err.Error()
		c.Log.Warn("refused on NATS", "client", request.ClientInformation.Host, "error", err)
	} else if reply.Jwt, err = user.Encode(c.Key.issuer); err != nil {
		c.Log.Error("no answer for NATS", "error", err)
		return
	} else {
		c.Log.Debug("let in on NATS", "client", request.ClientInformation.Host, "sender", user.Name)
	}
	text, err := reply.Encode(c.Key.issuer)
	if err != nil {
		c.Log.Error("no answer for NATS", "error", err)
		return
	}
	answer := []byte(text)
	if server != "" {
		if answer, err = c.Key.cipher.Seal(answer, server); err != nil {
			c.Log.Error("no answer for NATS", "error", err)
			return
		}
	}
	if err := msg.Respond(answer); err != nil {
		c.Log.Error("no answer for NATS", "error", err)
	}
}

// user is what a connection may do.
func (c *Callout) user(request *jwt.AuthorizationRequestClaims) (*jwt.UserClaims, error) {
	user := jwt.NewUserClaims(request.UserNkey)
	user.Audience = SendersAccount
	user.Expires = time.Now().Add(Lifetime + rand.N(Lifetime/9)).Unix()
	user.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket)
	h, err := c.holder(request)
	if err != nil {
		return nil, err
	}
	if h == nil {
		user.Name, user.Audience = anonymous, PartsAccount // as if it were one of them
		return user, nil
	}
	user.Name = h.Name + "@" + strconv.FormatUint(h.revision, 10)
	user.Permissions = permissions(h.sender)
	return user, nil
}

// permissions are all that a sender may do on NATS.
func permissions(s *gate.Sender) (p jwt.Permissions) {
	for org, region := range s.Orgs {
		p.Pub.Allow.Add(schema.ScanSubject(region, org), schema.CheckSubject(region, org))
	}
	if len(p.Pub.Allow) == 0 {
		p.Pub.Deny.Add(">") // an empty list of what is allowed would mean everything
	}
	// Of its own: what comes to _INBOX of others it cannot read.
	p.Sub.Allow.Add(InboxPrefix(s.Name) + ".>")
	return p
}

// InboxPrefix is what a client of that name must set as prefix of its inboxes.
func InboxPrefix(name string) string { return "_INBOX_" + name }

// holder finds who a connection is; nobody in particular is nil.
func (c *Callout) holder(request *jwt.AuthorizationRequestClaims) (*holder, error) {
	said := request.ConnectOptions
	token := said.Token
	if token == "" {
		token = said.Password
	}
	if token != "" {
		h := c.Directory.holderOf(token)
		if h == nil || said.Username != "" && said.Username != h.Name {
			return nil, gate.ErrUnknownSender
		}
		return h, nil
	}
	if request.TLS != nil {
		if cert, err := verified(request.TLS); err != nil {
			return nil, err
		} else if cert != nil {
			if h := c.Directory.holderOfCertificate(cert); h != nil {
				return h, nil
			}
			return nil, gate.ErrUnknownSender
		}
	}
	if said.Username != "" || said.Nkey != "" || said.JWT != "" {
		return nil, errors.New("neither token nor certificate")
	}
	if !c.Directory.Open() {
		return nil, errors.New("no credential given")
	}
	if address, err := netip.ParseAddr(request.ClientInformation.Host); err != nil || !address.IsLoopback() {
		return nil, errors.New("no credential given, and not on this machine")
	}
	return nil, nil
}

// verified is the client's certificate, if the server has verified it.
func verified(tls *jwt.ClientTLS) (*x509.Certificate, error) {
	if len(tls.VerifiedChains) == 0 || len(tls.VerifiedChains[0]) == 0 {
		return nil, nil
	}
	block, _ := pem.Decode([]byte(tls.VerifiedChains[0][0]))
	if block == nil {
		return nil, errors.New("NATS gave a certificate that is none")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the client's certificate: %w", err)
	}
	return cert, nil
}

// endOld ends connections of what is not so any more, after each change.
func (c *Callout) endOld(ctx context.Context) error {
	again := time.NewTimer(0) // what was revoked while nobody ran
	defer again.Stop()
	late := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.Directory.changed:
			late = true
		case <-again.C:
		}
		if err := c.sweep(ctx); err != nil {
			if ctx.Err() == nil {
				c.Log.Warn("cannot tell who is connected to NATS", "again after", retry, "error", err)
			}
			again.Reset(retry)
			continue
		}
		if late {
			late = false
			again.Reset(afterglow)
		}
	}
}

// connections is what a server says of who is connected to it.
type connections struct {
	Server struct{ ID string }
	Data   struct {
		Total       int `json:"total"`
		Offset      int `json:"offset"`
		Connections []struct {
			CID  uint64 `json:"cid"`
			User string `json:"authorized_user"`
		}
	}
	Error *struct{ Description string }
}

// sweep asks every server who is connected and ends what must not be.
func (c *Callout) sweep(ctx context.Context) error {
	inbox := c.System.NewInbox()
	sub, err := c.System.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("ask who is connected: %w", err)
	}
	defer sub.Unsubscribe()
	ask := func(server string, offset int) error {
		body, err := json.Marshal(map[string]any{"auth": true, "limit": pageSize, "offset": offset})
		if err != nil {
			return err
		}
		return c.System.PublishRequest("$SYS.REQ.SERVER."+server+"CONNZ", inbox, body)
	}
	if err := ask("PING.", 0); err != nil {
		return fmt.Errorf("ask who is connected: %w", err)
	}
	// Nobody says how many servers there are: those answer that are up.
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	answers := 0
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, context.DeadlineExceeded) && answers > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ask who is connected: %w", err)
		}
		answers++
		var page connections
		if err := json.Unmarshal(msg.Data, &page); err != nil {
			return fmt.Errorf("ask who is connected: %w", err)
		}
		if page.Error != nil {
			return fmt.Errorf("ask who is connected: %s", page.Error.Description)
		}
		for _, connection := range page.Data.Connections {
			if !c.stays(connection.User) {
				c.end(page.Server.ID, connection.CID, connection.User)
			}
		}
		if next := page.Data.Offset + len(page.Data.Connections); len(page.Data.Connections) > 0 && next < page.Data.Total {
			if err := ask(page.Server.ID+".", next); err != nil {
				return fmt.Errorf("ask who is connected: %w", err)
			}
		}
	}
}

// stays tells whether a connection by that name may go on.
func (c *Callout) stays(user string) bool {
	if user == anonymous {
		return c.Directory.Open()
	}
	name, revision, ours := strings.Cut(user, "@")
	if !ours {
		return true // one of the parts
	}
	n, err := strconv.ParseUint(revision, 10, 64)
	return err == nil && c.Directory.current(name, n)
}

func (c *Callout) end(server string, cid uint64, user string) {
	// No answer is awaited, but NATS does nothing for who wants none. The next sweep
	// sees whether it is gone.
	if err := c.System.PublishRequest("$SYS.REQ.SERVER."+server+".KICK", c.System.NewInbox(), fmt.Appendf(nil, `{"cid":%d}`, cid)); err != nil {
		c.Log.Warn("a connection was not ended", "sender", user, "error", err)
		return
	}
	c.Log.Info("ended a connection to NATS", "sender", user)
}
