package gate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"yaosu/schema"
)

// door is one Run.
type door struct {
	Config
	mux     *http.ServeMux
	cross   *http.CrossOriginProtection
	metrics *metrics
	recent  *recent
	memory  budget
	busy    chan struct{} // a token for each request that is worked on; holds MaxBusy

	decoders sync.Pool // of *schema.Decoder
	zstd     sync.Pool // of *zstd.Decoder, as making one costs more than a small body

	readiness readiness

	ratesMu sync.Mutex
	rates   map[string]*rate.Limiter // by name of the sender; guarded by ratesMu
}

// Who may use a route.
const (
	anybody = iota
	senders // who holds a credential
	readers // who may read any code
)

// pathNHSA is the one whose problems are answered in an envelope too.
const pathNHSA = "/v1/nhsa/{infno}"

type route struct {
	method, path string
	who          int
	handle       func(*door, *call) error
}

// routes are all there are. What d cannot serve is left out.
func (d *door) routes() []route {
	list := []route{
		{"GET", "/healthz", anybody, (*door).healthz},
		{"GET", "/readyz", anybody, (*door).readyz},
		{"GET", "/openapi.yaml", anybody, serveFile("openapi.yaml")},
		{"GET", "/asyncapi.yaml", anybody, serveFile("asyncapi.yaml")},
		{"GET", "/metrics", readers, (*door).serveMetrics},
	}
	if d.Sink != nil {
		list = append(list,
			route{"POST", "/v1/scans", senders, (*door).takeScans},
			route{"POST", pathNHSA, senders, (*door).takeNHSA})
	}
	if d.Check != nil {
		list = append(list, route{"POST", "/v1/check", senders, (*door).check})
	}
	if d.Filter != nil {
		list = append(list,
			route{"GET", "/v1/filter", senders, (*door).filterManifest},
			route{"GET", "/v1/filter/{part}", senders, (*door).filterPart})
	}
	if d.Lives != nil {
		list = append(list, route{"GET", "/v1/codes/{code...}", readers, (*door).life})
	}
	return list
}

func newDoor(cfg Config) (*door, error) {
	d := &door{
		Config: cfg,
		mux:    http.NewServeMux(),
		cross:  http.NewCrossOriginProtection(),
		recent: newRecent(),
		busy:   make(chan struct{}, cfg.MaxBusy),
		rates:  map[string]*rate.Limiter{},
	}
	d.memory.most = int64(cfg.MaxMemory)
	d.decoders.New = func() any { return new(schema.Decoder) }
	d.zstd.New = newZstd
	var err error
	if d.metrics, err = newMetrics(cfg.Metrics, d); err != nil {
		return nil, err
	}
	methods := map[string][]string{}
	for _, r := range d.routes() {
		d.mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) { d.serve(w, req, r) })
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		d.mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			d.serve(w, req, route{path: path, handle: func(*door, *call) error { return &problem{code: problemMethod} }})
		})
	}
	d.mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		d.serve(w, req, route{path: "none", handle: func(*door, *call) error { return &problem{code: problemNotFound} }})
	})
	return d, nil
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// call is one request.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	id     string
	sender *Sender // nil at an open door
	held   int64   // bytes of the door's memory
	status int     // of the answer, once it is written
}

// serve does everything for a request that is the same for all routes.
func (d *door) serve(w http.ResponseWriter, r *http.Request, to route) {
	start := time.Now()
	c := &call{w: w, r: r, id: requestID(r)}
	w.Header().Set("X-Request-Id", c.id)
	defer func() {
		d.memory.give(c.held)
		if broken := recover(); broken != nil {
			if broken == http.ErrAbortHandler {
				panic(broken)
			}
			d.Log.Error("a request broke the door", "request", c.id, "route", to.path, "panic", broken, "stack", string(debug.Stack()))
			if c.status == 0 {
				c.status = (&problem{code: problemInternal}).write(w, c.id)
			}
		}
		d.metrics.answered(to.path, c.status, time.Since(start))
	}()
	err := d.admit(c, to)
	if err == nil {
		err = to.handle(d, c)
	}
	if err == nil {
		return
	}
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{code: problemInternal, cause: err}
	}
	if to.path == pathNHSA && to.method == http.MethodPost {
		p.writeEnvelope(c)
	} else {
		c.status = p.write(w, c.id)
	}
	if p.cause != nil {
		d.Log.Warn("a request failed", "request", c.id, "route", to.path, "sender", c.name(), "problem", p.code, "error", p.cause)
	}
}

// admit finds out who c is and whether he may come in now.
func (d *door) admit(c *call, to route) error {
	// Any web page can have a browser post to an open door on loopback.
	if err := d.cross.Check(c.r); err != nil {
		return &problem{code: problemCrossSite}
	}
	if to.who == anybody {
		return nil
	}
	// Nor need the page come from elsewhere: its own name may lead to this machine.
	if shows := c.r.Header.Get("Authorization") != "" || c.r.TLS != nil; !shows && !d.Open && Loopback(d.Listener.Addr()) && !ofThisMachine(c.r.Host) {
		return &problem{code: problemCrossSite}
	}
	if d.Senders == nil {
		return nil
	}
	if err := d.identify(c); err != nil {
		return err
	}
	switch {
	case c.sender == nil: // at an open door
	case to.who == readers && !c.sender.Reads:
		return problemf(problemForbidden, "该凭证不能查询追溯码流向和运行指标。")
	case d.Rate > 0 && !d.limiter(c.sender.Name).Allow():
		return &problem{code: problemRate, retry: time.Second}
	}
	return nil
}

// ofThisMachine tells whether host, with or without a port, is a name that can lead
// nowhere else, or none, as no browser sends it.
func ofThisMachine(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address := net.ParseIP(strings.Trim(host, "[]"))
	return host == "" || strings.EqualFold(host, "localhost") || address != nil && address.IsLoopback()
}

// identify sets c.sender, which stays nil only for who shows no credential at a
// door that is open to him.
func (d *door) identify(c *call) (err error) {
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	bearer := strings.EqualFold(scheme, "Bearer") && token != ""
	switch state := c.r.TLS; {
	case bearer:
		c.sender, err = d.Senders.Sender(c.r.Context(), token)
	case scheme != "":
		return &problem{code: problemSender}
	case state != nil && len(state.VerifiedChains) > 0:
		bearer = true
		c.sender, err = d.Senders.Certificate(c.r.Context(), state.PeerCertificates[0])
	default:
		c.sender, err = d.Senders.Sender(c.r.Context(), "")
	}
	switch {
	case errors.Is(err, ErrUnknownSender):
		return &problem{code: problemSender}
	case err != nil:
		return &problem{code: problemAway, retry: time.Second, cause: err}
	case c.sender == nil && (bearer || !d.mayBeOpen()):
		return &problem{code: problemSender} // nobody is not everybody
	}
	return nil
}

// mayBeOpen tells whether anybody may come in without a credential, if Senders say
// so.
func (d *door) mayBeOpen() bool { return d.Open || Loopback(d.Listener.Addr()) }

func (c *call) name() string {
	if c.sender == nil {
		return ""
	}
	return c.sender.Name
}

func (d *door) limiter(sender string) *rate.Limiter {
	d.ratesMu.Lock()
	defer d.ratesMu.Unlock()
	l := d.rates[sender]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(d.Rate), max(1, int(2*d.Rate)))
		d.rates[sender] = l
	}
	return l
}

// enter waits until c may be worked on. Call leave then.
func (d *door) enter(c *call) (leave func(), err error) {
	select {
	case d.busy <- struct{}{}:
	default:
		wait, cancel := context.WithTimeout(c.r.Context(), d.BusyTime)
		defer cancel()
		select {
		case d.busy <- struct{}{}:
		case <-wait.Done():
			return nil, &problem{code: problemBusy, retry: time.Second}
		}
	}
	return func() { <-d.busy }, nil
}

// answer writes body as JSON.
func (c *call) answer(status int, body any) error {
	header := c.w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	c.status = status
	encoder := json.NewEncoder(c.w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body) // the client is gone, and there is nobody to tell
	return nil
}

// requestID is the client's own when it is fit for a log, else a new one.
func requestID(r *http.Request) string {
	const most = 64
	id := r.Header.Get("X-Request-Id")
	fit := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.:", c) >= 0
	}
	for i := range len(id) {
		if !fit(id[i]) {
			id = ""
			break
		}
	}
	if id == "" || len(id) > most {
		return rand.Text()
	}
	return id
}
