package bulk

import _ "embed"

// What an analyst would do without yaosu, to measure against: a copy of the
// scans, how it is filled from scan_rows, and the query for codes sold twice.
var (
	//go:embed analyst_table.sql
	AnalystTable string

	//go:embed analyst_fill.sql
	AnalystFill string

	//go:embed analyst_query.sql
	AnalystQuery string
)
