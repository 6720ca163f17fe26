package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ch "github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
)

// inserter sends blocks of columns, each whole and in one piece, and returns when
// the engine has stored it. It is safe for concurrent use.
//
// It stands beside the driver because the driver's own columns cost several times
// the processor time, and an allocation for nearly every value.
type inserter struct {
	opts     *clickhouse.Options
	settings map[string]string

	http *http.Client // nil over the native protocol

	mu   sync.Mutex
	idle []*ch.Client // guarded by mu; native connections nobody uses
}

// idleConnections is how many native connections are kept.
const idleConnections = 8

func newInserter(opts *clickhouse.Options) *inserter {
	i := &inserter{opts: opts, settings: map[string]string{
		// What one event sent twice makes is the same row. Merging it away at once costs
		// three quarters of an insert; the table does it later, and FINAL sees to it.
		"optimize_on_insert": "0",
		// The first merge works it out as well; until then the part is small and is read
		// whole.
		"materialize_skip_indexes_on_insert": "0",
	}}
	for name, value := range opts.Settings {
		i.settings[name] = fmt.Sprint(value)
	}
	if opts.Protocol == clickhouse.HTTP {
		i.http = &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: opts.DialTimeout}).DialContext,
			TLSClientConfig:     opts.TLS,
			MaxIdleConnsPerHost: idleConnections,
			IdleConnTimeout:     opts.ConnMaxLifetime,
			WriteBufferSize:     128 << 10,
		}}
	}
	return i
}

// close closes the connections that are not in use.
func (i *inserter) close() error {
	if i.http != nil {
		i.http.CloseIdleConnections()
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for _, client := range i.idle {
		errs = append(errs, client.Close())
	}
	i.idle = nil
	return errors.Join(errs...)
}

// insert stores columns in table. Columns without rows are an error of the caller.
func (i *inserter) insert(ctx context.Context, table, token string, columns proto.Input) error {
	settings := i.settings
	if token != "" {
		settings = maps.Clone(settings)
		settings["insert_deduplication_token"] = token
	}
	send := i.insertNative
	if i.http != nil {
		send = i.insertHTTP
	}
	if err := send(ctx, "INSERT INTO "+table+" "+columns.Columns(), settings, columns); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}

// nativeSilence is how long the engine may say nothing before the client looks
// whether the caller still waits. Who calls sets an end.
const nativeSilence = 5 * time.Minute

func (i *inserter) insertNative(ctx context.Context, query string, settings map[string]string, columns proto.Input) error {
	client, err := i.connect(ctx)
	if err != nil {
		return err
	}
	q := ch.Query{Body: query + " VALUES", Input: columns}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		q.Settings = append(q.Settings, ch.Setting{Key: name, Value: settings[name], Important: true})
	}
	err = client.Do(ctx, q)
	var refusal *ch.Exception
	if errors.As(err, &refusal) {
		// The engine may go on talking on this connection.
		_ = client.Close()
		return &clickhouse.Exception{Code: int32(refusal.Code), Name: refusal.Name, Message: refusal.Message}
	}
	if err != nil {
		_ = client.Close()
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.idle) >= idleConnections {
		return client.Close()
	}
	i.idle = append(i.idle, client)
	return nil
}

// connect takes an idle connection or makes one.
func (i *inserter) connect(ctx context.Context) (*ch.Client, error) {
	for {
		i.mu.Lock()
		last := len(i.idle) - 1
		if last < 0 {
			i.mu.Unlock()
			break
		}
		client := i.idle[last]
		i.idle = i.idle[:last]
		i.mu.Unlock()
		// A server that was started again meanwhile closed it.
		if client.Ping(ctx) == nil {
			return client, nil
		}
		_ = client.Close()
	}
	var errs []error
	for _, address := range i.opts.Addr {
		opts := ch.Options{
			Address:     address,
			Database:    i.opts.Auth.Database,
			User:        i.opts.Auth.Username,
			Password:    i.opts.Auth.Password,
			ClientName:  "yaosu",
			DialTimeout: i.opts.DialTimeout,
			ReadTimeout: nativeSilence,
			TLS:         i.opts.TLS,
		}
		if i.opts.Compression != nil && i.opts.Compression.Method != clickhouse.CompressionNone {
			opts.Compression = ch.CompressionLZ4
		}
		client, err := ch.Dial(ctx, opts)
		if err == nil {
			return client, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("connect: %w", errors.Join(errs...))
}

func (i *inserter) insertHTTP(ctx context.Context, query string, settings map[string]string, columns proto.Input) error {
	var parts body
	w := proto.NewWriter(&parts, &proto.Buffer{})
	block := proto.Block{Columns: len(columns), Rows: columns[0].Data.Rows()}
	const plainNative = 0 // of the protocol's revisions: the format as a file has it
	if err := block.WriteBlock(w, plainNative, columns); err != nil {
		return err
	}
	if _, err := w.Flush(); err != nil {
		return err
	}
	args := url.Values{"query": {query + " FORMAT Native"}, "database": {i.opts.Auth.Database}}
	for name, value := range settings {
		args.Set(name, value)
	}
	if c := i.opts.Compression; c != nil && c.Method != clickhouse.CompressionNone {
		packed, err := pack(parts)
		if err != nil {
			return err
		}
		parts = body{packed}
		args.Set("decompress", "1")
	}
	var errs []error
	for _, address := range i.opts.Addr {
		err := i.post(ctx, address, args, parts)
		var refusal *clickhouse.Exception
		if err == nil || errors.As(err, &refusal) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mostWords is how much of a refusal is read, bytes.
const mostWords = 64 << 10

// request is a POST to the engine at address.
func (i *inserter) request(ctx context.Context, address string, args url.Values, body io.Reader) (*http.Request, error) {
	to := url.URL{Scheme: "http", Host: address, Path: i.opts.HttpUrlPath, RawQuery: args.Encode()}
	if i.opts.TLS != nil {
		to.Scheme = "https"
	}
	if !strings.HasPrefix(to.Path, "/") {
		to.Path = "/" + to.Path
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), body)
	if err != nil {
		return nil, err
	}
	for name, value := range i.opts.HttpHeaders {
		request.Header.Set(name, value)
	}
	request.Header.Set("X-ClickHouse-User", i.opts.Auth.Username)
	if i.opts.Auth.Password != "" {
		request.Header.Set("X-ClickHouse-Key", i.opts.Auth.Password)
	}
	return request, nil
}

func (i *inserter) do(request *http.Request, address string) (*http.Response, error) {
	answer, err := i.http.Do(request)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // its text has the address and all settings
		}
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	return answer, nil
}

func (i *inserter) post(ctx context.Context, address string, args url.Values, parts body) error {
	request, err := i.request(ctx, address, args, parts.reader())
	if err != nil {
		return err
	}
	request.ContentLength = parts.size()
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(parts.reader()), nil }
	answer, err := i.do(request, address)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, mostWords))
	code, _ := strconv.ParseInt(answer.Header.Get("X-ClickHouse-Exception-Code"), 10, 32)
	switch {
	case code != 0:
		return &clickhouse.Exception{Code: int32(code), Message: string(bytes.TrimSpace(said))}
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", address, err)
	case answer.StatusCode != http.StatusOK || len(said) > 0:
		// An insert has nothing to say: what does is a proxy, or an exception that came late.
		return fmt.Errorf("%s answers %s: %s", address, answer.Status, bytes.TrimSpace(said))
	}
	return nil
}

// body is a request in pieces, which are the columns themselves.
type body [][]byte

func (b *body) Write(part []byte) (int, error) {
	*b = append(*b, part)
	return len(part), nil
}

func (b body) size() (n int64) {
	for _, part := range b {
		n += int64(len(part))
	}
	return n
}

func (b body) reader() io.Reader {
	buffers := net.Buffers(slices.Clone(b))
	return &buffers
}

// packAtOnce is how much is compressed in one piece.
const packAtOnce = 1 << 20

// pack compresses a body in the engine's own framing.
func pack(parts body) ([]byte, error) {
	w := compress.NewWriter(compress.LevelZero, compress.LZ4)
	var packed []byte
	plain := make([]byte, packAtOnce)
	from := parts.reader()
	for {
		n, err := io.ReadFull(from, plain)
		if n > 0 {
			if err := w.Compress(plain[:n]); err != nil {
				return nil, fmt.Errorf("compress: %w", err)
			}
			packed = append(packed, w.Data...)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return packed, nil
		case err != nil:
			return nil, err
		}
	}
}
