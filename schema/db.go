package schema

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// DefaultDatabase is used when a DSN names none.
const DefaultDatabase = "yaosu"

// Conn is a connection to ClickHouse: the driver's, and a faster way for blocks.
type Conn struct {
	driver.Conn
	inserter *inserter
	opts     *clickhouse.Options
}

// Database is the name of the database that names without one are found in.
func (c *Conn) Database() string { return c.opts.Auth.Database }

// In is a connection of its own to another database of the same server.
func (c *Conn) In(database string) (*Conn, error) { return open(inDatabase(c.opts, database)) }

// Close ends both.
func (c *Conn) Close() error {
	return errors.Join(c.Conn.Close(), c.inserter.close())
}

// Open connects to ClickHouse by DSN, native (clickhouse://user:pass@host:9000/db)
// or HTTP (http://… or https://…). It does not create the database; Apply does.
// The connection is lazy: an engine that is away is an error of the first query.
func Open(dsn string) (*Conn, error) {
	opts, err := options(dsn)
	if err != nil {
		return nil, err
	}
	return open(opts)
}

func open(opts *clickhouse.Options) (*Conn, error) {
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return &Conn{Conn: conn, inserter: newInserter(opts), opts: opts}, nil
}

func options(dsn string) (*clickhouse.Options, error) {
	if !strings.Contains(dsn, "://") {
		return nil, fmt.Errorf("ClickHouse address %q: want clickhouse://user:pass@host:9000/yaosu or http://user:pass@host:8123/yaosu", dsn)
	}
	opts, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse address: %w", hidePassword(dsn, err))
	}
	if opts.Auth.Database == "" {
		opts.Auth.Database = DefaultDatabase
	}
	if opts.Settings == nil {
		opts.Settings = clickhouse.Settings{}
	}
	for name, value := range map[string]any{
		// The engine's default is 1: an insert would return before it is stored.
		"async_insert": 0,
		// An insert into a sharded table returns when every shard has it.
		"distributed_foreground_insert": 1,
		// In a cluster, what stands behind IN or JOIN is worked out once and sent to
		// the shards, not once by each; and a reader's rights reach no farther.
		"distributed_product_mode": "global",
		"join_use_nulls":           0,
	} {
		if _, given := opts.Settings[name]; !given {
			opts.Settings[name] = value
		}
	}
	// Servers close idle sockets; a dead one shows only at the first write.
	opts.ConnMaxLifetime = 5 * time.Minute
	opts.DialTimeout = 10 * time.Second
	opts.MaxOpenConns = 8
	opts.MaxIdleConns = 4
	return opts, nil
}

// hidePassword keeps the secret of a DSN out of errors and so out of logs.
func hidePassword(dsn string, err error) error {
	u, parseErr := url.Parse(dsn)
	if parseErr != nil {
		return fmt.Errorf("not an address of the form clickhouse://user:pass@host:9000/yaosu")
	}
	if password, ok := u.User.Password(); ok && password != "" {
		return fmt.Errorf("%s", strings.ReplaceAll(err.Error(), password, "***"))
	}
	return err
}

// Database returns the database a DSN names.
func Database(dsn string) (string, error) {
	opts, err := options(dsn)
	if err != nil {
		return "", err
	}
	return opts.Auth.Database, nil
}

// inDatabase is opts for another database of the same server.
func inDatabase(opts *clickhouse.Options, database string) *clickhouse.Options {
	other := *opts
	other.Auth.Database = database
	return &other
}
