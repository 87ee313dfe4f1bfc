package web

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// The OpenAPI document is made of the tables that the calls are served from and
// of the Go types that they read and answer: it cannot tell of a field that is
// not there. The calls about accounts have a table for it below.

type object = map[string]any

// accountCall is what the document says about a call that is no operation.
type accountCall struct {
	route   string // the mux's pattern
	open    bool   // it needs no token
	status  int
	summary string
	body    any // a value of the type that is read; nil: none
	answer  any // and of the one that is answered
}

type usernameAnswer struct {
	Message  string `json:"message"`
	Username string `json:"username"`
}

var accountCalls = []accountCall{
	{"POST /register", true, 201, "Make an account", credentials{}, usernameAnswer{}},
	{"POST /login", true, 200, "Begin a session", credentials{}, granted{}},
	{"POST /logout", true, 200, "End the session of a token", struct {
		Token string `json:"token"`
	}{}, message{}},
	{"POST /api/auth/register", true, 201, "Make an account and begin a session", credentials{}, granted{}},
	{"POST /api/auth/login", true, 200, "Begin a session whose tokens are refreshed", credentials{}, granted{}},
	{"POST /api/auth/logout", true, 200, "End the session of a token", struct {
		RefreshToken string `json:"refreshToken"`
	}{}, message{}},
	{"POST /api/password", false, 200, "Change the password and end all other sessions", struct {
		Old string `json:"old"`
		New string `json:"new"`
	}{}, message{}},
	{"POST /api/refresh", true, 200, "Get the next tokens", refreshBody{}, granted{}},
	{"POST /api/auth/refresh", true, 200, "Get the next tokens", refreshBody{}, granted{}},
	{"POST /api/logout-everywhere", false, 200, "End all of the caller's sessions", nil, message{}},
	{"GET /api/sessions", false, 200, "List the caller's sessions", nil, struct {
		Sessions []protocol.SessionInfo `json:"sessions"`
	}{}},
	{"DELETE /api/sessions/{id}", false, 200, "End one of the caller's sessions", nil, message{}},
	{"GET /api/users", false, 200, "List users, by name", nil, struct {
		Users []userInfo `json:"users"`
		Next  string     `json:"next,omitempty"`
	}{}},
	{"GET /api/users/me", false, 200, "Tell about the caller", nil, struct {
		Username string `json:"username"`
		Role     string `json:"role"`
		Created  string `json:"created"`
		Session  string `json:"session"`
	}{}},
	{"GET /api/users/{first}/{second}", false, 200, "Get a user's public key: {name}/public-key, or public-key/{name}", nil, publicKey{}},
	{"POST /api/users/public-key", false, 200, "Set the caller's public key", struct {
		PublicKey json.RawMessage `json:"publicKey"`
	}{}, publicKey{}},
	{"PUT /api/users/{name}/role", false, 200, "Give a user a role: user, moderator or admin", struct {
		Role string `json:"role"`
	}{}, struct {
		Username string `json:"username"`
		Role     string `json:"role"`
	}{}},
	{"PUT /api/users/{name}/disabled", false, 200, "Disable or enable an account", struct {
		Disabled bool `json:"disabled"`
	}{}, struct {
		Username string `json:"username"`
		Disabled bool   `json:"disabled"`
	}{}},
	{"GET /api/push/key", true, 200, "Get the key that browsers subscribe to Web Push with", nil, struct {
		Key string `json:"key"`
	}{}},
	{"POST /api/push/subscriptions", false, 201, "Have a browser notified while the caller is away", subscription{}, message{}},
	{"DELETE /api/push/subscriptions", false, 200, "Have a browser notified no more", struct {
		Endpoint string `json:"endpoint"`
	}{}, message{}},
	{"GET /health", true, 200, "Tell that this server answers", nil, struct {
		Status    string `json:"status"`
		TimeStamp string `json:"timeStamp"`
	}{}},
	{"GET /api/openapi.json", true, 200, "Get this document", nil, struct {
		OpenAPI string `json:"openapi"`
	}{}},
}

// accountQueries are the queries of those calls that have one: a value of a type
// whose fields are what it may have.
var accountQueries = map[string]any{
	"GET /api/users": struct {
		Prefix string `json:"prefix"`
		After  string `json:"after"`
		Limit  int    `json:"limit"`
	}{},
}

type refreshBody struct {
	RefreshToken string `json:"refreshToken"`
}

// document answers the description of all calls.
func (s *Server) document(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(openAPI())
}

// openAPI is the document, in JSON.
var openAPI = sync.OnceValue(func() []byte {
	paths, schemas := map[string]object{}, object{}
	add := func(route string, call object) {
		method, path, _ := strings.Cut(route, " ")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path][strings.ToLower(method)] = call
	}
	for _, c := range accountCalls {
		call := describeCall(c.route, c.summary, c.status, schemaOf(reflect.TypeOf(c.answer), schemas))
		if c.body != nil {
			call["requestBody"] = content("what is asked", schemaOf(reflect.TypeOf(c.body), schemas))
		}
		if query := accountQueries[c.route]; query != nil {
			call["parameters"] = queryOf(reflect.TypeOf(query), schemas)
		}
		if c.open {
			call["security"] = []object{}
		}
		add(c.route, call)
	}
	for _, op := range operations {
		add(op.method+" "+op.path, op.describe(schemas))
	}
	schemas["Error"] = schemaOf(reflect.TypeFor[struct {
		Message string `json:"message"`
		Code    string `json:"code"`
	}](), schemas)
	document, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "ChatCluster", "version": protocol.Subprotocol,
			"description": "Calls about rooms and messages are requests of the chat protocol: the same fields, the same events, the same codes.",
		},
		"paths":    paths,
		"security": []object{{"token": []string{}}},
		"components": object{
			"schemas":         schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
		},
	})
	if err != nil {
		panic(err) // maps, lists, strings and numbers always encode
	}
	return document
})

// queryOf are the fields of a type as parameters of a query.
func queryOf(t reflect.Type, schemas object) (parameters []object) {
	fields := schemaOfFields(t, schemas)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		parameters = append(parameters, object{"name": name, "in": "query", "schema": fields[name]})
	}
	return parameters
}

// describe is what the document says about an operation.
func (op *operation) describe(schemas object) object {
	var answer object
	if op.answer != "" {
		types := []string{op.answer}
		if op.on != nil {
			types = append(types, protocol.TypeDone) // it was so already
		}
		answer = object{"allOf": []object{
			schemaOf(reflect.TypeFor[protocol.Event](), schemas),
			{"type": "object", "properties": object{"type": object{"type": "string", "enum": types}}},
		}}
	}
	call := describeCall(op.method+" "+op.path, op.summary, op.status, answer)
	fields := schemaOfFields(reflect.TypeFor[protocol.Request](), schemas)
	parameters, _ := call["parameters"].([]object)
	for _, name := range op.query {
		schema := fields[name]
		if name == "name" { // each is one of the request's names
			schema = fields["names"]
		}
		parameters = append(parameters, object{"name": name, "in": "query", "schema": schema})
	}
	if op.method != http.MethodGet {
		parameters = append(parameters, object{
			"name": idempotencyKey, "in": "header", "schema": fields["id"],
			"description": "The request's id: what is sent again with the same one appears once.",
		})
	}
	call["parameters"] = parameters
	if op.body != nil {
		maps.DeleteFunc(fields, func(name string, _ any) bool { return !slices.Contains(op.body, name) })
		call["requestBody"] = content("", object{"type": "object", "properties": fields})
	}
	return call
}

var pathParameter = regexp.MustCompile(`{(\w+)}`)

// describeCall is what all calls have.
func describeCall(route, summary string, status int, answer object) object {
	done := object{"description": summary}
	if answer != nil {
		done = content(summary, answer)
	}
	call := object{"summary": summary, "responses": object{
		strconv.Itoa(status): done,
		"default":            content("It was refused, or could not be done.", object{"$ref": "#/components/schemas/Error"}),
	}}
	var parameters []object
	for _, m := range pathParameter.FindAllStringSubmatch(route, -1) {
		kind := "string"
		if m[1] == "offset" {
			kind = "integer"
		}
		parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": kind}})
	}
	if parameters != nil {
		call["parameters"] = parameters
	}
	return call
}

func content(description string, schema object) object {
	c := object{"content": object{"application/json": object{"schema": schema}}}
	if description != "" {
		c["description"] = description
	}
	return c
}

// schemaOf describes the JSON of a type. Types of package protocol become
// schemas of their own.
func schemaOf(t reflect.Type, schemas object) object {
	switch {
	case t == reflect.TypeFor[json.RawMessage]():
		return object{} // any JSON
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case t.Kind() == reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case t.Kind() == reflect.String:
		return object{"type": "string"}
	case t.Kind() != reflect.Struct:
		return object{"type": "integer"}
	case !strings.HasSuffix(t.PkgPath(), "/protocol"):
		return structSchema(t, schemas)
	case schemas[t.Name()] == nil:
		schemas[t.Name()] = object{} // an event may have events
		schemas[t.Name()] = structSchema(t, schemas)
	}
	return object{"$ref": "#/components/schemas/" + t.Name()}
}

func structSchema(t reflect.Type, schemas object) object {
	schema := object{"type": "object", "properties": schemaOfFields(t, schemas)}
	var required []string
	for i := range t.NumField() {
		if name, omit, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); omit == "" {
			required = append(required, name)
		}
	}
	if required != nil {
		schema["required"] = required
	}
	return schema
}

func schemaOfFields(t reflect.Type, schemas object) object {
	fields := object{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = schemaOf(t.Field(i).Type, schemas)
	}
	return fields
}
