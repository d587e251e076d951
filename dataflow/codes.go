package dataflow

// Codes of findings. They are stable: a code is never reused for something else.
const (
	// The file as such.
	CodeFileUnreadable = "file-unreadable"
	CodeFileTooLarge   = "file-too-large"
	CodeFileNotText    = "file-not-text"
	CodeFileEmpty      = "file-empty"

	// The YAML.
	CodeSyntax            = "yaml-syntax"
	CodeReader            = "yaml-reader"
	CodeTab               = "yaml-tab"
	CodeTooDeep           = "yaml-too-deep"
	CodeTooManyValues     = "yaml-too-many-values"
	CodeAlias             = "yaml-alias"
	CodeMultipleDocuments = "yaml-multiple-documents"
	CodeDuplicateKey      = "yaml-duplicate-key"
	CodeTooManyFindings   = "too-many-findings"
	CodeInternal          = "internal"

	// The shape.
	CodeUnknownKey  = "unknown-key"
	CodeMissingKey  = "missing-key"
	CodeWrongType   = "wrong-type"
	CodeBothSet     = "both-spellings"
	CodeNoEffect    = "no-effect"
	CodeUnsupported = "unsupported"

	// Values.
	CodeInvalidID       = "invalid-id"
	CodeDuplicateID     = "duplicate-id"
	CodeInvalidDuration = "invalid-duration"
	CodeInvalidSize     = "invalid-size"
	CodeInvalidNumber   = "invalid-number"
	CodeInvalidChoice   = "invalid-choice"
	CodeInvalidInput    = "invalid-input"
	CodeInvalidTimer    = "invalid-timer"
	CodeInvalidArgs     = "invalid-args"
	CodeInvalidEnv      = "invalid-env"
	CodeEnvRefused      = "env-refused"
	CodeInvalidValue    = "invalid-value"

	// The source of a node.
	CodeNoSource      = "no-source"
	CodeManySources   = "many-sources"
	CodeNotForKind    = "not-for-this-kind"
	CodeGitRef        = "git-reference"
	CodeOnePerRuntime = "one-per-runtime"
	CodeROS2          = "ros2-config"
	CodePathNotFound  = "path-not-found"

	// The wiring.
	CodeUnknownNode       = "unknown-node"
	CodeUnknownOutput     = "unknown-output"
	CodeUnknownOperator   = "unknown-operator"
	CodeOperatorNeeded    = "operator-needed"
	CodeBackpressureCycle = "backpressure-cycle"

	// Modules.
	CodeModulePath  = "module-path"
	CodeModulePort  = "module-port"
	CodeModuleCycle = "module-cycle"
	CodeModuleLimit = "module-limit"
	CodeModuleParam = "module-param"

	// Type annotations: always warnings here, errors under --strict-types.
	CodeTypeKey         = "type-key"
	CodeTypePattern     = "type-pattern"
	CodeTypeUnknown     = "type-unknown"
	CodeTypeMismatch    = "type-mismatch"
	CodeTypeUnannotated = "type-unannotated"
	CodeTypeUnresolved  = "type-unresolved" // of a field, in a file of types

	// The files of types, and rules about types.
	CodeTypesFile = "types-file"
	CodeRuleType  = "rule-unknown-type"
)
