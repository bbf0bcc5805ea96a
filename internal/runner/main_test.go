package runner

import (
	"os"
	"testing"

	"github.com/voltageems/voltage/scripts"
)

func TestMain(m *testing.M) {
	scripts.RouteClientLog(quiet()) // servers are killed all the time
	os.Exit(m.Run())
}
