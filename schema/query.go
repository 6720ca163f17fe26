package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Stream asks a query with typed parameters over HTTP and returns the answer in
// the engine's format of that name, whole or not at all: the engine sends nothing
// before the query ended well. The caller closes it. Over the native protocol,
// which has no formats, the error is errors.ErrUnsupported.
func (c *Conn) Stream(ctx context.Context, query, format string, params, settings map[string]string) (io.ReadCloser, error) {
	i := c.inserter
	if i.http == nil {
		return nil, fmt.Errorf("ask for %s over the native protocol: %w", format, errors.ErrUnsupported)
	}
	args := url.Values{"database": {i.opts.Auth.Database}, "default_format": {format}, "wait_end_of_query": {"1"}}
	for name, value := range i.opts.Settings {
		args.Set(name, fmt.Sprint(value))
	}
	for name, value := range settings {
		args.Set(name, value)
	}
	for name, value := range params {
		args.Set("param_"+name, value)
	}
	var errs []error
	for _, address := range i.opts.Addr {
		answer, err := i.askHTTP(ctx, address, args, query)
		var refusal *clickhouse.Exception
		if err == nil || errors.As(err, &refusal) {
			return answer, err
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (i *inserter) askHTTP(ctx context.Context, address string, args url.Values, query string) (io.ReadCloser, error) {
	request, err := i.request(ctx, address, args, strings.NewReader(query))
	if err != nil {
		return nil, err
	}
	answer, err := i.do(request, address)
	if err != nil {
		return nil, err
	}
	code, _ := strconv.ParseInt(answer.Header.Get("X-ClickHouse-Exception-Code"), 10, 32)
	if code == 0 && answer.StatusCode == http.StatusOK {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, mostWords))
	switch {
	case code != 0:
		return nil, &clickhouse.Exception{Code: int32(code), Message: string(bytes.TrimSpace(said))}
	case err != nil:
		return nil, fmt.Errorf("read the answer of %s: %w", address, err)
	}
	return nil, fmt.Errorf("%s answers %s: %s", address, answer.Status, bytes.TrimSpace(said))
}
