package detect

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"yaosu/schema"
)

//go:embed closed.sql
var selectClosed string

// month is the number of a month in the tables that passes keep.
func month(t time.Time) uint32 {
	t = t.In(schema.Shanghai)
	return uint32(t.Year()*100 + int(t.Month()))
}

// sayWhyClosed adds to the reason of suspects that no longer stand what took the
// ground away: which of their sales was returned, voided or told anew, as far as
// that is what happened.
func sayWhyClosed(ctx context.Context, conn *schema.Conn, list []standing) error {
	if len(list) == 0 {
		return nil
	}
	var orgs, events []string
	first, last := list[0].FirstTime, list[0].LastTime
	for _, s := range list {
		if s.FirstTime.Before(first) {
			first = s.FirstTime
		}
		if s.LastTime.After(last) {
			last = s.LastTime
		}
		for _, event := range s.Events {
			org, id, _ := strings.Cut(event, "/")
			orgs, events = append(orgs, org), append(events, id)
		}
	}
	became := map[string]string{}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(bounds()))
	rows, err := conn.Query(ctx, selectClosed, distinct(orgs), distinct(events), month(first), month(last))
	if err != nil {
		return fmt.Errorf("see why %d suspects no longer stand: %w", len(list), err)
	}
	defer rows.Close()
	for rows.Next() {
		var event, what string
		if err := rows.Scan(&event, &what); err != nil {
			return fmt.Errorf("see why %d suspects no longer stand: %w", len(list), err)
		}
		became[event] = what
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("see why %d suspects no longer stand: %w", len(list), err)
	}
	for i := range list {
		why := "后续上传的数据、参考资料或参数使该发现不再成立"
		var of []string
		for _, event := range list[i].Events {
			if what := became[event]; what != "" && len(of) < 3 {
				of = append(of, event+what)
			}
		}
		if len(of) > 0 {
			why = strings.Join(of, "，")
		}
		list[i].Reason += "（已解释：" + why + "）"
	}
	return nil
}
