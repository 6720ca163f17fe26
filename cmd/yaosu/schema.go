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
					"With several servers, name the two clusters of their configuration and run it once for\n" +
					"each server. Each then holds its part in the database yaosu_local; yaosu stands for all.\n\n" +
					"Examples:\n" +
					"  yaosu schema apply --clickhouse clickhouse://default@db1:9000/yaosu\n" +
					"  yaosu schema apply --clickhouse clickhouse://default@db1:9000/yaosu --cluster yaosu --cluster-everywhere yaosu_everywhere\n" +
					"  yaosu schema apply --clickhouse clickhouse://default@db2:9000/yaosu --cluster yaosu --cluster-everywhere yaosu_everywhere",
				Flags: []cli.Flag{
					&cli.StringFlag{
						Name:  "cluster",
						Usage: "`NAME` of the cluster with one shard for each server (default: a single server)",
					},
					&cli.StringFlag{
						Name:  "cluster-everywhere",
						Usage: "`NAME` of the cluster with all servers as replicas of one shard, internal_replication false",
					},
				},
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
	cluster := schema.Cluster{Shards: cmd.String("cluster"), Everywhere: cmd.String("cluster-everywhere")}
	if (cluster.Shards == "") != (cluster.Everywhere == "") {
		return usageError{"give both --cluster and --cluster-everywhere, or none for a single server"}
	}
	var applied []string
	if cluster.Shards == "" {
		applied, err = schema.Apply(ctx, at.url)
	} else {
		applied, err = schema.ApplyCluster(ctx, at.url, cluster)
	}
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
