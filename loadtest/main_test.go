package loadtest_test

import (
	"testing"

	"yaosu/internal/enginetest"
)

func TestMain(m *testing.M) { enginetest.Main(m) }
