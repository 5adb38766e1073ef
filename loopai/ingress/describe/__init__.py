"""What the API and the bus say of themselves: OpenAPI, Swagger UI, AsyncAPI."""
