package schema

import (
	"crypto/sha256"
	"strings"
	"time"
)

// Suspect is one finding of one detector, as it goes to officers, files and the
// stream. Persons are pseudonyms unless resolved for those allowed.
type Suspect struct {
	ID              string    `json:"suspect_id"` // stable: the same finding found again keeps it
	Detector        string    `json:"detector"`
	DetectorVersion string    `json:"detector_version"`
	Severity        string    `json:"severity"`    // low, medium, high
	EntityKind      string    `json:"entity_kind"` // code, person, org, device, lot, group
	EntityID        string    `json:"entity_id"`
	Period          string    `json:"period"`  // YYYY-MM for monthly detectors, else empty
	Regions         []string  `json:"regions"` // all concerned, first where it last happened
	Score           float64   `json:"score"`
	FirstTime       time.Time `json:"first_time"`
	LastTime        time.Time `json:"last_time"`
	Amount          float64   `json:"amount"` // yuan
	Events          []string  `json:"events"` // org/event_id, in order of time
	Codes           []string  `json:"codes"`
	Orgs            []string  `json:"orgs"`  // in the order of Roles
	Roles           []string  `json:"roles"` // sold_first, sold_again, restocked, …
	Persons         []string  `json:"persons"`
	Reason          string    `json:"reason"`     // one Chinese sentence
	Parameters      string    `json:"parameters"` // of the detector, JSON
	Status          string    `json:"status"`
	OpenedAt        time.Time `json:"opened_at"`
	UpdatedAt       time.Time `json:"updated_at"`
	SupersededBy    string    `json:"superseded_by"` // the group this one went into, else empty
	Reopened        bool      `json:"reopened"`      // dismissed once, and open again for new evidence
}

// States of a suspect. Only StatusOpen and StatusExplained are a machine's; the
// others are human decisions.
const (
	StatusOpen      = "open"
	StatusReviewing = "reviewing"
	StatusConfirmed = "confirmed"
	StatusDismissed = "dismissed"
	StatusReferred  = "referred"
	StatusExplained = "explained" // later events took the ground away
)

// SuspectID is 80 bits of what a finding is about, so that the same finding found
// again, by another program or in another year, has the same id.
func SuspectID(detector, entityKind, entityID, period string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{detector, entityKind, entityID, period}, "\x00")))
	return shortText.EncodeToString(sum[:10])
}
