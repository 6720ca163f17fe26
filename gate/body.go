package gate

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// budget is memory that requests share.
type budget struct {
	most int64
	used atomic.Int64
}

// take is false when there are no n bytes left.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

var (
	errTooLarge = errors.New("larger than it may be")
	errNoMemory = errors.New("all memory for bodies is taken")
)

// firstRead is what a body gets before anything of it came: whoever says that he
// will send much must send it first.
const firstRead = 4 << 10

// collect reads all of from, and takes from the door's memory what it becomes.
func (d *door) collect(c *call, from io.Reader) ([]byte, error) {
	grow := func(n int64) error {
		if !d.memory.take(n) {
			return errNoMemory
		}
		c.held += n
		return nil
	}
	if err := grow(firstRead); err != nil {
		return nil, err
	}
	body := make([]byte, 0, firstRead)
	for {
		if len(body) == cap(body) {
			if len(body) > d.MaxBody {
				return nil, errTooLarge
			}
			// The old bytes live until they are copied; then they are the collector's.
			if err := grow(int64(cap(body))); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, 2*cap(body)), body...)
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > d.MaxBody:
			return nil, errTooLarge
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, err
		}
	}
}

// load returns the body of c, unpacked, when c may be worked on. Call leave then. With
// keep a body that cannot be unpacked is among the rejects when its sender is told.
func (d *door) load(c *call, keep bool) (body []byte, leave func(), err error) {
	packed, err := d.receive(c)
	if err != nil {
		return nil, nil, err
	}
	if leave, err = d.enter(c); err != nil {
		return nil, nil, err
	}
	if body, err = d.unpack(c, packed); err == nil {
		return body, leave, nil
	}
	defer leave()
	if !errors.Is(err, errBroken) {
		return nil, nil, err
	}
	if keep {
		if err := d.refuseBody(c, packed); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, problemf(problemRequest, "请求内容无法解压:与 Content-Encoding 不符或已损坏。")
}

// receive returns the body as it came.
func (d *door) receive(c *call) ([]byte, error) {
	if c.r.ContentLength > int64(d.MaxBody) {
		return nil, d.tooLarge()
	}
	body, err := d.collect(c, http.MaxBytesReader(c.w, c.r.Body, int64(d.MaxBody)+1))
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, errTooLarge):
		return nil, d.tooLarge()
	case errors.Is(err, errNoMemory):
		return nil, &problem{code: problemBusy, retry: 2 * time.Second}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &problem{code: problemTimeout}
	}
	return nil, problemf(problemRequest, "请求内容没有传完整,请重发。")
}

func (d *door) tooLarge() error {
	return problemf(problemTooLarge, "请求内容(解压后)不得超过 %d MiB,请减少每次上传的事件数。", d.MaxBody>>20)
}

// errBroken is of a body that its Content-Encoding does not open.
var errBroken = errors.New("the body is not what Content-Encoding says")

// unpack undoes the Content-Encoding of body.
func (d *door) unpack(c *call, body []byte) ([]byte, error) {
	var from io.Reader
	switch encoding := strings.ToLower(strings.TrimSpace(c.r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
		unzip, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, errBroken
		}
		from = unzip
	case "zstd":
		decoder := d.zstd.Get().(*zstd.Decoder)
		defer func() {
			_ = decoder.Reset(nil) // it must not keep the body
			d.zstd.Put(decoder)
		}()
		if err := decoder.Reset(bytes.NewReader(body)); err != nil {
			return nil, errBroken
		}
		from = decoder
	default:
		return nil, problemf(problemType, "压缩方式仅支持 gzip 和 zstd,且只压一层。")
	}
	plain, err := d.collect(c, from)
	switch {
	case err == nil:
		return plain, nil
	case errors.Is(err, errTooLarge):
		return nil, d.tooLarge()
	case errors.Is(err, errNoMemory):
		return nil, &problem{code: problemBusy, retry: 2 * time.Second}
	}
	return nil, errBroken
}

// zstdWindow is how far back a stream may refer: what encoders use by default. A
// decoder keeps as much, so a larger one would be memory for whoever asks.
const zstdWindow = 8 << 20

// newZstd makes a decoder for door.zstd.
func newZstd() any {
	decoder, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), // no goroutine of its own
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		panic(err) // of options alone
	}
	return decoder
}
