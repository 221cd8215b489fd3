"""Files that users bring through the browser: where they lie (`kept`), the routes that take them (`route`), the drop zone (`drop`)."""
