package faults_test

import (
	"net"
	"net/url"
	"regexp"
	"sync"
	"testing"
	"time"
)

// proxy stands between ingesters and ClickHouse, for either transport, and can
// do to a connection what networks do.
type proxy struct {
	dsn    string // through it
	target string

	mu    sync.Mutex // guards the following
	links map[*link]bool
	rate  int  // bytes a second upwards, of each connection; 0 is no limit
	mute  bool // inserts go through, their answers do not
	muted int  // inserts whose answer is being held back now
}

// link is one connection through the proxy.
type link struct {
	proxy          *proxy
	client, server net.Conn
	tail           []byte // of what went up: where an insert may begin
	since          int    // bytes that went up since the last insert began; -1: none did
	held           bool   // answers are kept from the client
}

// insertSeen is an insert into scan_rows as both transports send it.
var insertSeen = regexp.MustCompile(`INSERT(?: |\+|%20)INTO(?: |\+|%20)[^ +%]*scan_rows`)

// insertBegun is how many bytes after its query an insert is in full swing: the
// native protocol exchanges a few words before the data.
const insertBegun = 8 << 10

func startProxy(t testing.TB, dsn string) *proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{dsn: withHost(t, dsn, listener.Addr().String()), target: u.Host, links: map[*link]bool{}}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed below
			}
			server, err := net.Dial("tcp", p.target)
			if err != nil {
				_ = client.Close() // as nobody listened
				continue
			}
			l := &link{proxy: p, client: client, server: server, since: -1}
			p.mu.Lock()
			p.links[l] = true
			p.mu.Unlock()
			wait.Go(l.up)
			wait.Go(l.down)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		wait.Wait()
	})
	return p
}

// limit lets through so many bytes a second upwards on each connection; 0 is all.
func (p *proxy) limit(rate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
}

// hush keeps the answers of inserts that begin from now on from their clients, or
// no more.
func (p *proxy) hush(mute bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = mute
	for l := range p.links {
		l.since = -1
	}
}

// hushed is how many inserts wait for an answer that is kept from them.
func (p *proxy) hushed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.muted
}

// cut ends all connections there are.
func (p *proxy) cut() {
	p.mu.Lock()
	links := p.links
	p.links = map[*link]bool{}
	p.muted = 0
	p.mu.Unlock()
	for l := range links {
		l.close()
	}
}

func (l *link) close() {
	// What matters of it is that both ends are told.
	_ = l.client.Close()
	_ = l.server.Close()
}

func (l *link) up() {
	defer l.close()
	chunk := make([]byte, 16<<10)
	for {
		n, err := l.client.Read(chunk)
		if n > 0 {
			l.sees(chunk[:n])
			if _, err := l.server.Write(chunk[:n]); err != nil {
				return
			}
			if rate := l.proxy.rateNow(); rate > 0 {
				passes(time.Duration(n) * time.Second / time.Duration(rate))
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) rateNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// sees looks for inserts in what goes up.
func (l *link) sees(data []byte) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	text := append(l.tail, data...)
	if at := insertSeen.FindAllIndex(text, -1); at != nil {
		l.since = len(text) - at[len(at)-1][1]
		text = text[at[len(at)-1][1]:]
	} else if l.since >= 0 {
		l.since += len(data)
	}
	const longest = 64 // of what insertSeen finds
	l.tail = append([]byte(nil), text[max(0, len(text)-longest):]...)
	if l.proxy.mute && !l.held && l.since > insertBegun {
		l.held = true
		l.proxy.muted++
	}
}

func (l *link) down() {
	defer l.close()
	chunk := make([]byte, 16<<10)
	for {
		n, err := l.server.Read(chunk)
		if n > 0 && !l.quiet() {
			if _, err := l.client.Write(chunk[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) quiet() bool {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	return l.held
}
