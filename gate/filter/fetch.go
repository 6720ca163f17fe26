package filter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// FetchConfig says whence a Fetcher gets a filter.
type FetchConfig struct {
	// URL is the address of the gate, https://host:port.
	URL string

	// Token is shown as bearer token; empty for none. It is asked for at each attempt.
	Token func() (string, error)

	// Set is where the filter is kept.
	Set *Set

	// Every is how often a newer version is asked for, give or take a tenth. Default
	// an hour.
	Every time.Duration

	// Rate is how many bytes a second are fetched at most. Default 256 KiB.
	Rate int

	// MaxBytes is how large a filter may be; a larger one is not fetched. Until the
	// new one is whole, parts of both are on disk. Default 1 GiB.
	MaxBytes int64

	// Idle tells whether the till is quiet. A part waits for that, up to half a minute.
	// Nil: it always is.
	Idle func() bool

	// Metrics, when given, counts what happens.
	Metrics *FetchMetrics

	// Log gets what went wrong. Default: nowhere.
	Log *slog.Logger
}

const (
	defaultRate  = 256 << 10
	defaultMost  = 1 << 30
	pieceBytes   = 16 << 10 // that are read at once
	mostManifest = 4 << 20
	answerTime   = 30 * time.Second // until an answer begins
	partTime     = 10 * time.Minute // for a part; what was broken off is gone on with
	idleTime     = 30 * time.Second
	idleBeat     = 100 * time.Millisecond
	leastDelay   = time.Second
	versions     = 5 // that are tried one after the other, when the gate makes new ones
)

// Fetcher brings a Set up to the version of a gate.
type Fetcher struct {
	FetchConfig
	client  *http.Client
	pace    *rate.Limiter
	checked bool // what is here was read, and nothing was found damaged since
}

// NewFetcher returns a Fetcher. Nothing is fetched until Run or Fetch is called.
func NewFetcher(cfg FetchConfig) (*Fetcher, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || cfg.Set == nil {
		return nil, errors.New("filter: needs the address of a gate, such as https://gate.example.org:8443, and a set")
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	cfg.Every = cmp.Or(max(0, cfg.Every), defaultEvery)
	cfg.Rate = cmp.Or(max(0, cfg.Rate), defaultRate)
	cfg.MaxBytes = cmp.Or(max(0, cfg.MaxBytes), defaultMost)
	if cfg.Token == nil {
		cfg.Token = func() (string, error) { return "", nil }
	}
	if cfg.Idle == nil {
		cfg.Idle = func() bool { return true }
	}
	if cfg.Metrics == nil {
		cfg.Metrics = &FetchMetrics{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Metrics.set.Store(cfg.Set)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = answerTime
	transport.MaxIdleConnsPerHost = 1
	return &Fetcher{FetchConfig: cfg, client: &http.Client{Transport: transport}, pace: rate.NewLimiter(rate.Limit(cfg.Rate), max(cfg.Rate, pieceBytes))}, nil
}

// Run fetches at once, then now and again until ctx ends. While it fails it tries again,
// each time after twice as long, and the filter that is there stays.
func (f *Fetcher) Run(ctx context.Context) error {
	defer f.client.CloseIdleConnections()
	delay, said := leastDelay, ""
	for {
		wait := f.Every/10*9 + rand.N(f.Every/5+1) // not all tills of a province at once
		err := f.Fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			wait = min(wait, delay)
			delay = min(2*delay, f.Every)
			if err.Error() != said {
				said = err.Error()
				f.Log.Warn("the filter of what was settled elsewhere was not fetched; the one of before is used", "error", err)
			}
		default:
			delay, said = leastDelay, ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.Set.Damaged:
			if f.checked {
				f.checked = false
				f.Log.Warn("a part of the filter is damaged and is fetched again")
			}
		case <-time.After(wait):
		}
	}
}

// errGone says that the gate has no such part any more.
var errGone = errors.New("the gate has a newer version")

// Fetch brings the set up to date.
func (f *Fetcher) Fetch(ctx context.Context) error {
	err := errGone
	for range versions {
		if err = f.fetch(ctx); !errors.Is(err, errGone) {
			break
		}
	}
	f.Metrics.fetches.Add(1)
	if err != nil {
		f.Metrics.failed.Add(1)
		return err
	}
	f.Metrics.asked.Store(time.Now().UnixNano())
	return nil
}

// fetch goes for the version the gate has now.
func (f *Fetcher) fetch(ctx context.Context) error {
	m, text, err := f.manifest(ctx)
	if err != nil {
		return err
	}
	if m == nil {
		return nil // the one that is here, and whole
	}
	if int64(m.Bytes) > f.MaxBytes {
		return fmt.Errorf("the filter has %d bytes and may have %d here: allow more, if the disk has room for twice of it", m.Bytes, f.MaxBytes)
	}
	for bits, p := range m.parts {
		if f.has(bits, p) {
			continue
		}
		if err := f.part(ctx, bits, p); err != nil {
			return err
		}
	}
	if err := f.Set.keep(m, text, false); err != nil {
		return err
	}
	f.checked = true
	f.Log.Info("the filter of what was settled elsewhere is up to date", "version", m.Version, "as_of", m.AsOf, "codes", m.Codes, "bytes", m.Bytes)
	return nil
}

// has tells whether a part is here. In this life each is read once, and later again
// when it is used.
func (f *Fetcher) has(bits int, p *Part) bool {
	if f.checked {
		info, err := os.Stat(filepath.Join(f.Set.dir, p.Name))
		return err == nil && info.Size() == int64(p.Bytes)
	}
	_, err := readPart(f.Set.dir, bits, p)
	return err == nil
}

// ask makes a request. The caller closes the body.
func (f *Fetcher) ask(ctx context.Context, path string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL+path, nil)
	if err != nil {
		return nil, err
	}
	token, err := f.Token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gate for the filter: %w", err)
	}
	return resp, nil
}

// refused says what an answer means that is none of those hoped for.
func refused(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("the gate refuses the credential (status %d): ask who runs the system whether it was revoked", resp.StatusCode)
	case http.StatusNotFound:
		return errors.New("the gate gives out no filter (status 404)")
	}
	return fmt.Errorf("the gate answers with status %d", resp.StatusCode)
}

// manifest asks for the newest; nil when that is the one that stands.
func (f *Fetcher) manifest(ctx context.Context) (*Manifest, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	var headers []string
	if _, version := f.Set.Manifest(); version != "" && f.checked {
		headers = []string{"If-None-Match", `"` + version + `"`}
	}
	resp, err := f.ask(ctx, "/v1/filter", headers...)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return nil, nil, nil
	case http.StatusOK:
	default:
		return nil, nil, refused(resp)
	}
	text, err := io.ReadAll(io.LimitReader(f.paced(ctx, resp.Body), mostManifest))
	if err != nil {
		return nil, nil, fmt.Errorf("fetch the manifest of the filter: %w", err)
	}
	m, err := ParseManifest(text)
	return m, text, err
}

// part fetches one, or what of it is not here yet.
func (f *Fetcher) part(ctx context.Context, bits int, p *Part) error {
	if err := f.quiet(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	half := filepath.Join(f.Set.dir, halfPrefix+p.Name)
	file, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keep a part of the filter: %w", err)
	}
	defer file.Close()
	have, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("keep a part of the filter: %w", err)
	}
	if have >= int64(p.Bytes) {
		have = 0 // it does not fit its name, or somebody would have renamed it
	}
	var headers []string
	if have > 0 {
		headers = []string{"Range", fmt.Sprintf("bytes=%d-", have), "If-Range", `"` + p.Name + `"`}
	}
	resp, err := f.ask(ctx, "/v1/filter/"+p.Name, headers...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
		f.Metrics.resumed.Add(1)
	case http.StatusOK:
		have = 0
	case http.StatusNotFound:
		return errGone
	default:
		return refused(resp)
	}
	if err := file.Truncate(have); err != nil {
		return fmt.Errorf("keep a part of the filter: %w", err)
	}
	if _, err := file.Seek(have, io.SeekStart); err != nil {
		return fmt.Errorf("keep a part of the filter: %w", err)
	}
	n, err := io.Copy(file, io.LimitReader(f.paced(ctx, resp.Body), int64(p.Bytes)-have+1))
	f.Metrics.bytes.Add(uint64(n))
	if err != nil {
		return fmt.Errorf("fetch part %s of the filter: %w", p.Name, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("keep a part of the filter: %w", err)
	}
	if _, err := readFile(half, bits, p); err != nil {
		_ = os.Remove(half) // it begins anew the next time
		f.Metrics.damaged.Add(1)
		return fmt.Errorf("part %s of the filter came otherwise than it was made: %w", p.Name, err)
	}
	if err := os.Rename(half, filepath.Join(f.Set.dir, p.Name)); err != nil {
		return fmt.Errorf("keep a part of the filter: %w", err)
	}
	f.Metrics.parts.Add(1)
	return nil
}

// quiet waits for a moment in which the till asks nothing.
func (f *Fetcher) quiet(ctx context.Context) error {
	for begun := time.Now(); !f.Idle() && time.Since(begun) < idleTime; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(idleBeat):
		}
	}
	return ctx.Err()
}

// paced reads no faster than Rate.
func (f *Fetcher) paced(ctx context.Context, r io.Reader) io.Reader {
	return &pacedReader{ctx, r, f.pace}
}

type pacedReader struct {
	ctx  context.Context
	r    io.Reader
	pace *rate.Limiter
}

func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b[:min(len(b), pieceBytes)])
	if wait := p.pace.WaitN(p.ctx, n); wait != nil {
		return n, wait
	}
	return n, err
}
