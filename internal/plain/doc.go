// Package plain is a second reader of the detectors' words, in slow, plain Go:
// it takes all events at once and answers which entities each detector finds.
//
// It promises to share nothing with the SQL but the classification of codes,
// so that a test in which both agree means something. It keeps everything in
// memory, knows no increments and is for tests only. The detectors card_bundle
// and resale_ring are not in it.
package plain
