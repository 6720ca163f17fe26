package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"yaosu/schema"
)

func schemaCommand() *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "brings the tables of ClickHouse up to date, or prints them",
		Commands: []*cli.Command{
			{
				Name:  "apply",
				Usage: "runs the migrations that have not run yet",
				Description: "Creates the database of --clickhouse when it is missing. Safe to run again, and while\n" +
					"the system runs. Refuses a database that is newer than this program.\n\n" +
					"Example:\n" +
					"  yaosu schema apply --clickhouse clickhouse://default@db1:9000/yaosu",
				Action: applySchema,
			},
			{
				Name:  "print",
				Usage: "prints the whole schema as SQL",
				Description: "Example:\n" +
					"  yaosu schema print > schema.sql",
				Action: printSchema,
			},
		},
	}
}

func applySchema(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	at, err := clickHouseAddress(cmd)
	if err != nil {
		return err
	}
	if _, err := schema.Database(at.url); err != nil {
		return usageError{err.Error()}
	}
	applied, err := schema.Apply(ctx, at.url)
	for _, name := range applied {
		fmt.Fprintln(cmd.Root().Writer, "applied", name)
	}
	if err != nil {
		return fmt.Errorf("apply the schema: %w", err)
	}
	if len(applied) == 0 {
		fmt.Fprintln(cmd.Root().Writer, "the schema is up to date")
	}
	return nil
}

func printSchema(_ context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	_, err := fmt.Fprint(cmd.Root().Writer, schema.SQL())
	return err
}
