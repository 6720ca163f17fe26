package schema

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

//go:embed schema.sql
var sum string

// SQL returns the whole schema as the engine prints it, the sum of all
// migrations: for reading, and for a database made by other means.
func SQL() string { return sum }

const migrationsTable = `CREATE TABLE IF NOT EXISTS migrations
(
    name String COMMENT '迁移文件 · migration file (yaosu)',
    sha256 String COMMENT '文件摘要 · digest of the file (yaosu)',
    applied_at DateTime64(3, 'Asia/Shanghai') DEFAULT now64(3) COMMENT '执行时间 · when it ran (yaosu)'
)
ENGINE = ReplacingMergeTree
ORDER BY name
COMMENT '已执行的迁移 · migrations that ran'`

// migration is one file of DDL. Its statements can each run again, so a crash
// between two of them is healed by the next start.
type migration struct {
	name       string
	digest     string
	statements []string
}

// Apply creates the database of dsn where it is missing and brings it to the
// newest schema. It returns the names of the migrations it ran. It refuses a
// database whose migrations were changed since, or are newer than this program.
func Apply(ctx context.Context, dsn string) (applied []string, err error) {
	opts, err := options(dsn)
	if err != nil {
		return nil, err
	}
	return apply(ctx, opts)
}

// apply is Apply for the database of opts.
func apply(ctx context.Context, opts *clickhouse.Options) (applied []string, err error) {
	database := opts.Auth.Database
	conn, err := openNew(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	spread, err := isSpread(ctx, conn, database)
	if err != nil {
		return nil, err
	}
	if spread {
		// The tables would be made beside those of the cluster, on this server only.
		return nil, fmt.Errorf("database %s is spread over a cluster: apply the schema with the names of the cluster, on each of its servers", database)
	}
	all, err := readMigrations(migrationFiles)
	if err != nil {
		return nil, err
	}
	return migrate(ctx, conn, all)
}

// openNew connects to the database of opts and makes it first where it is
// missing. It waits for nothing: it says whether the engine answers now.
func openNew(ctx context.Context, opts *clickhouse.Options) (driver.Conn, error) {
	server, err := clickhouse.Open(inDatabase(opts, "default"))
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	defer server.Close()
	if err := server.Ping(ctx); err != nil {
		return nil, fmt.Errorf("reach ClickHouse: %w", err)
	}
	if err := server.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quoteName(opts.Auth.Database)); err != nil {
		return nil, fmt.Errorf("create database %s: %w", opts.Auth.Database, err)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return conn, nil
}

// migrate runs what of all has not run. It is safe to call twice, also at once.
func migrate(ctx context.Context, conn driver.Conn, all []migration) (applied []string, err error) {
	if err := conn.Exec(ctx, migrationsTable); err != nil {
		return nil, fmt.Errorf("create the table of migrations: %w", err)
	}
	done, err := doneMigrations(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		digest, ran := done[m.name]
		delete(done, m.name)
		if ran && digest != m.digest {
			return applied, fmt.Errorf("migration %s was changed after it ran here: put the old text back and add a new file", m.name)
		}
		if ran {
			continue
		}
		for i, statement := range m.statements {
			if err := conn.Exec(ctx, statement); err != nil {
				return applied, fmt.Errorf("migration %s, statement %d: %w", m.name, i+1, err)
			}
		}
		if err := conn.Exec(ctx, "INSERT INTO migrations (name, sha256) VALUES (?, ?)", m.name, m.digest); err != nil {
			return applied, fmt.Errorf("note that migration %s ran: %w", m.name, err)
		}
		applied = append(applied, m.name)
	}
	for name := range done {
		return applied, fmt.Errorf("the database has migration %s, which this program does not know: use a newer yaosu", name)
	}
	return applied, nil
}

func doneMigrations(ctx context.Context, conn driver.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, "SELECT name, sha256 FROM migrations FINAL")
	if err != nil {
		return nil, fmt.Errorf("read the migrations that ran: %w", err)
	}
	defer rows.Close()
	done := map[string]string{}
	for rows.Next() {
		var name, digest string
		if err := rows.Scan(&name, &digest); err != nil {
			return nil, fmt.Errorf("read the migrations that ran: %w", err)
		}
		done[name] = digest
	}
	return done, rows.Err()
}

func readMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var all []migration
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		digest := sha256.Sum256(text)
		all = append(all, migration{
			name:       strings.TrimPrefix(name, "migrations/"),
			digest:     hex.EncodeToString(digest[:]),
			statements: statements(string(text)),
		})
	}
	return all, nil
}

// statements splits a file at semicolons that end a line; comment lines go.
func statements(text string) []string {
	var out []string
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "--") {
			continue
		}
		if end, found := strings.CutSuffix(strings.TrimRight(line, " \r\n"), ";"); found {
			b.WriteString(end)
			out = append(out, strings.TrimSpace(b.String()))
			b.Reset()
			continue
		}
		b.WriteString(line)
	}
	if rest := strings.TrimSpace(b.String()); rest != "" {
		out = append(out, rest)
	}
	return out
}

func quoteName(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}
