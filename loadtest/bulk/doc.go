// Package bulk fills a database with years of scans of a made-up province, a
// hundred million of them in minutes, to measure what they cost.
//
// A World promises the same scans for the same Config, in order of arrival, and
// honest life by the words of the detectors but for what it plants and counts.
// Rows are made by schema.Block, as the ingester makes them; only the stream is
// left out. Years makes the years, More what comes in
// after them.
//
// It is no ground truth: what is planted is known by number, not by name.
package bulk
