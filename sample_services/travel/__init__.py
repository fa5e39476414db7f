"""Travel booking: flights, hotels, cars, payment and the itinerary by e-mail. See README.md beside this file."""
