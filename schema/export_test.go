package schema

import (
	"context"
	"slices"
)

// Migration is one file of DDL, as tests take it apart.
type Migration struct {
	Name       string
	Statements []string
}

// Migrations are all of them.
func Migrations() ([]Migration, error) {
	all, err := readMigrations(migrationFiles)
	out := make([]Migration, len(all))
	for i, m := range all {
		out[i] = Migration{m.name, m.statements}
	}
	return out, err
}

// ApplyBefore is Apply by a program that has no migrations from name on.
func ApplyBefore(ctx context.Context, dsn, name string) error {
	opts, err := options(dsn)
	if err != nil {
		return err
	}
	conn, err := openNew(ctx, opts)
	if err != nil {
		return err
	}
	defer conn.Close()
	all, err := readMigrations(migrationFiles)
	if err != nil {
		return err
	}
	_, err = migrate(ctx, conn, slices.DeleteFunc(all, func(m migration) bool { return m.name >= name }))
	return err
}
