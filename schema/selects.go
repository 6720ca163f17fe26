package schema

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Selects gives the query of each view of the database, by the view's name, with
// other tables and views of the database by their bare names: so a view can be
// made again in another database, over the tables that are there.
func (c *Conn) Selects(ctx context.Context) (map[string]string, error) {
	rows, err := c.Query(ctx, "SELECT name, as_select FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")
	if err != nil {
		return nil, fmt.Errorf("read the views of %s: %w", c.Database(), err)
	}
	defer rows.Close()
	// The engine writes the database before each name.
	bare := strings.NewReplacer(quoteName(c.Database())+".", "", c.Database()+".", "")
	all := map[string]string{}
	for rows.Next() {
		var name, query string
		if err := rows.Scan(&name, &query); err != nil {
			return nil, fmt.Errorf("read the views of %s: %w", c.Database(), err)
		}
		all[name] = bare.Replace(query)
	}
	return all, rows.Err()
}

// TableIDs tells tables from others of the same name that took their place: those
// number their blocks anew.
func (c *Conn) TableIDs(ctx context.Context, names ...string) (map[string]string, error) {
	var ids map[string]string
	if err := c.QueryRow(ctx, "SELECT mapFromArrays(groupArray(name), groupArray(toString(uuid))) FROM system.tables WHERE database = currentDatabase() AND name IN (?)", names).Scan(&ids); err != nil {
		return nil, fmt.Errorf("see which tables there are: %w", err)
	}
	for _, name := range names {
		if ids[name] == "" {
			return nil, fmt.Errorf("see which tables there are: %s has no table %s", c.Database(), name)
		}
	}
	return ids, nil
}

// Spread tells whether the tables of the database are spread over a cluster.
func (c *Conn) Spread(ctx context.Context) (bool, error) { return isSpread(ctx, c.Conn, c.Database()) }

func isSpread(ctx context.Context, conn driver.Conn, database string) (bool, error) {
	var spread uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'scan_rows' AND engine = 'Distributed'").Scan(&spread); err != nil {
		return false, fmt.Errorf("look at the tables of %s: %w", database, err)
	}
	return spread > 0, nil
}
