package voltage_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/model"
)

// A program that logs people in itself tells the handler who they are.
func ExampleWithUser() {
	eng, err := voltage.NewEngine(voltage.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// … the program's own session …
		eng.Handler().ServeHTTP(w, voltage.WithUser(r, "anna", model.RoleViewer))
	})
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/session", nil))
	fmt.Print(w.Body)
	// Output: {"name":"anna","role":"viewer","login":false}
}

func ExampleHTTP() {
	h := voltage.HTTP{
		Listen: ":8443",
		TLS:    voltage.HTTPTLS{CertFile: "server.crt", KeyFile: "server.key"},
		Keys: []voltage.APIKey{{Name: "dashboard", Role: model.RoleViewer, From: []string{"10.1.0.0/16"},
			Hash: "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"}},
	}
	fmt.Println(voltage.Config{HTTP: h}.Validate())
	h.TLS = voltage.HTTPTLS{}
	fmt.Println(voltage.Config{HTTP: h}.Validate())
	// Output:
	// <nil>
	// invalid: http: listen ":8443": credentials would cross the network in the clear: add tls, or insecure where a proxy or tunnel protects them
}
