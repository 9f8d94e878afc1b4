"""Long answers, held to statements by a judge: K-QA's completeness and hallucination."""
